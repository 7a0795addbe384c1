// Package image has the names that images go by, and the appc view of an OCI image. It knows
// nothing of where images are kept or fetched from, and links neither a registry client nor
// net/http, because every start of a pod loads it.
package image

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/appc/spec/schema"
	"github.com/appc/spec/schema/types"
)

// Kind is the way an image is named. It is also the name of the directory that holds such names in
// the image store.
type Kind string

const (
	Docker        Kind = "docker"         // docker://[HOST[:PORT]/]NAME[:TAG][@DIGEST], an image in a registry
	OCILayout     Kind = "oci"            // oci:DIR[:TAG], an OCI image layout in a directory
	OCIArchive    Kind = "oci-archive"    // oci-archive:FILE[:TAG], an OCI image layout in a tar file
	DockerArchive Kind = "docker-archive" // docker-archive:FILE[:NAME[:TAG]], what docker save writes
	File          Kind = "file"           // file:///PATH or a path: an ACI
	URL           Kind = "url"            // http:// or https://, an ACI
	ID            Kind = "id"             // sha512-HEX or a prefix of it: an image in the store
	// NAME[:VERSION][,LABEL=VALUE…], found by appc discovery (appc spec, discovery.md)
	Appc Kind = "appc"
)

// dockerHub is the registry of names without one, as Docker's own client and rkt know it.
const dockerHub = "registry-1.docker.io"

// maxReference bounds a reference, bytes.
const maxReference = 4096

// Reference is a parsed name of an image. Which fields are set depends on Kind.
type Reference struct {
	Kind Kind

	Host       string // Docker: registry, with the port if one was given
	Repository string // Docker: name in the registry, library/ included
	Digest     string // Docker: "sha256:…", then Tag is ""
	// Docker: "latest" if none was given; OCILayout, OCIArchive, DockerArchive (NAME[:TAG]): may be
	// ""
	Tag     string
	Path    string // OCILayout, OCIArchive, DockerArchive, File: absolute and clean
	URL     string // URL: as given
	ID      string // ID: "sha512-" and 2 to 128 lower-case hex digits
	App     string // Appc: name without version and labels
	Version string // Appc: may be ""
	Labels  map[string]string
}

const domainPart = `[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?`

var (
	// The grammar of docker/distribution's reference package.
	hostPattern = regexp.MustCompile(`^(\[[0-9a-fA-F:]+\]|` + domainPart + `(\.` + domainPart +
		`)*)(:[0-9]{1,5})?$`)
	repositoryPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern        = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`) // and at most maxTag bytes
	// image-spec, annotations.md: org.opencontainers.image.ref.name.
	layoutTagPattern = regexp.MustCompile(`^[A-Za-z0-9]+([-._:@/+][A-Za-z0-9]+|--[A-Za-z0-9]+)*$`)
)

const maxTag = 128 // bytes

// Hex reports whether a text is prefix and from min to max hex digits, lower case. A regular
// expression with such a number in it takes a millisecond to compile, at every start of a program,
// and milliseconds for the names of a thousand images.
func Hex(s, prefix string, min, max int) bool {
	digits, ok := strings.CutPrefix(s, prefix)
	return ok && len(digits) >= min && len(digits) <= max && strings.Trim(digits, "0123456789abcdef") == ""
}

// ParseReference reads what a user calls an image. A path is told from an appc name as rkt did: it
// begins with "/", "./" or "../", or it ends in ".aci". A newline at the end is ignored. Relative
// paths are taken from the working directory, so that one file has one name. The error says what is
// wrong and does not repeat the name.
func ParseReference(s string) (Reference, error) {
	s = strings.TrimRight(s, "\r\n") // as of a file with an ID in it
	if s == "" {
		return Reference{}, errors.New("empty name")
	}
	if len(s) > maxReference {
		return Reference{}, fmt.Errorf("name longer than %d bytes", maxReference)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Reference{}, errors.New("control character in the name")
	}
	scheme, rest, hasScheme := strings.Cut(s, "://")
	switch {
	case hasScheme && scheme == "docker":
		return parseDocker(rest)
	case hasScheme && (scheme == "http" || scheme == "https"):
		return parseURL(s)
	case hasScheme && scheme == "file":
		file, err := url.PathUnescape(rest)
		if err != nil || !strings.HasPrefix(file, "/") || strings.ContainsRune(file, 0) {
			return Reference{}, errors.New("not file:// and an absolute path")
		}
		return parsePath(File, file)
	case strings.HasPrefix(s, "oci:"):
		return parseTagged(OCILayout, "DIR", s)
	case strings.HasPrefix(s, "oci-archive:"):
		return parseTagged(OCIArchive, "FILE", s)
	case strings.HasPrefix(s, "docker-archive:"):
		return parseTagged(DockerArchive, "FILE", s)
	case hasScheme && !strings.HasPrefix(s, ".") && !strings.HasPrefix(s, "/"):
		return Reference{}, fmt.Errorf("unknown kind of image %s:// (known are docker, file, http, https)", scheme)
	case strings.HasPrefix(s, "sha512-"):
		if !Hex(s, "sha512-", 2, 128) {
			if len(s) < len("sha512-")+2 {
				return Reference{}, errors.New("image ID too short (sha512- and 2 to 128 hex digits)")
			}
			return Reference{}, errors.New("not an image ID (sha512- and 2 to 128 hex digits)")
		}
		return Reference{Kind: ID, ID: s}, nil
	case strings.HasPrefix(s, "/"), strings.HasPrefix(s, "./"), strings.HasPrefix(s, "../"),
		strings.HasSuffix(s, ".aci"):
		return parsePath(File, s)
	}
	return parseAppc(s)
}

func parseDocker(s string) (Reference, error) {
	r := Reference{Kind: Docker, Host: dockerHub}
	name, digest, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		if !Hex(digest, "sha256:", 64, 64) {
			return Reference{}, fmt.Errorf("digest %q is not sha256: and 64 hex digits", digest)
		}
		r.Digest = digest
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, r.Tag = name[:i], name[i+1:]
		if len(r.Tag) > maxTag || !tagPattern.MatchString(r.Tag) {
			return Reference{}, fmt.Errorf("tag %q is not a tag", r.Tag)
		}
	}
	switch {
	case hasDigest:
		r.Tag = "" // the digest says it all
	case r.Tag == "":
		r.Tag = "latest"
	}
	// The part before the first slash is a host if it looks like one, as Docker has it.
	if host, rest, ok := strings.Cut(name, "/"); ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		if !hostPattern.MatchString(host) || len(host) > 255 {
			return Reference{}, fmt.Errorf("%q is not a host", host)
		}
		r.Host, name = strings.ToLower(host), rest
	}
	if r.Host == "docker.io" || r.Host == "index.docker.io" {
		r.Host = dockerHub
	}
	if !repositoryPattern.MatchString(name) {
		return Reference{}, fmt.Errorf("%q is not the name of a repository (lower-case letters, digits, separators)",
			name)
	}
	if r.Host == dockerHub && !strings.Contains(name, "/") {
		name = "library/" + name
	}
	if len(name) > 255 {
		return Reference{}, fmt.Errorf("repository %q: longer than 255 bytes", name)
	}
	r.Repository = name
	return r, nil
}

func parseURL(s string) (Reference, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Reference{}, errors.New("not a URL")
	}
	if u.Host == "" || u.Opaque != "" {
		return Reference{}, errors.New("a URL without a host")
	}
	if u.User != nil {
		return Reference{}, errors.New("credentials in a URL end in logs; put them into auth.d")
	}
	return Reference{Kind: URL, URL: s}, nil
}

// parseTagged reads KIND:PATH[:TAG], the path up to the first colon, as in skopeo: tags may have
// more.
func parseTagged(kind Kind, what, s string) (Reference, error) {
	file, tag, hasTag := strings.Cut(s[len(kind)+1:], ":")
	if file == "" || hasTag && !layoutTagPattern.MatchString(tag) {
		return Reference{}, fmt.Errorf("not %s:%s or %s:%s:TAG", kind, what, kind, what)
	}
	r, err := parsePath(kind, file)
	if r.Tag = tag; len(r.Name()) > maxReference {
		return Reference{}, fmt.Errorf("path and tag longer than %d bytes", maxReference)
	}
	return r, err
}

func parsePath(kind Kind, file string) (Reference, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return Reference{}, fmt.Errorf("%s: %w", file, err)
	}
	if abs == "/" {
		return Reference{}, errors.New("the root directory is no image")
	}
	if len(abs) > maxReference {
		return Reference{}, fmt.Errorf("path longer than %d bytes", maxReference)
	}
	return Reference{Kind: kind, Path: abs}, nil
}

func parseAppc(s string) (Reference, error) {
	labels := map[string]string{}
	fields := strings.Split(s, ",")
	name, version, hasVersion := strings.Cut(fields[0], ":")
	if _, err := types.NewACIdentifier(name); err != nil {
		return Reference{},
			fmt.Errorf("%q is not the name of an image (docker://NAME, oci:DIR, a path with a slash, or an appc name)",
				s)
	}
	if hasVersion && version == "" {
		return Reference{}, errors.New("empty version")
	}
	if hasVersion {
		labels["version"] = version
	}
	for _, field := range fields[1:] {
		label, value, ok := strings.Cut(field, "=")
		if _, err := types.NewACIdentifier(label); err != nil || !ok || value == "" {
			return Reference{}, fmt.Errorf("%q is not LABEL=VALUE", field)
		}
		if _, twice := labels[label]; twice {
			return Reference{}, fmt.Errorf("label %q is given twice", label)
		}
		labels[label] = value
	}
	return AppcReference(name, labels)
}

// AppcReference is the reference to an image by its appc name and labels, the version being one of
// them.
func AppcReference(name string, labels map[string]string) (Reference, error) {
	if _, err := types.NewACIdentifier(name); err != nil {
		return Reference{}, fmt.Errorf("%q is not the name of an image: %w", name, err)
	}
	for part := range strings.SplitSeq(name, "/") { // NewACIdentifier lets these through
		if part == "" || part == "." || part == ".." || len(part) > 240 {
			return Reference{}, fmt.Errorf("%q cannot be a part of an image's name", part)
		}
	}
	r := Reference{Kind: Appc, App: name, Version: labels["version"], Labels: maps.Clone(labels)}
	delete(r.Labels, "version")
	for label, value := range r.Labels {
		if label == "name" {
			return Reference{}, errors.New(`"name" is no label`)
		}
		if value == "" {
			return Reference{}, fmt.Errorf("label %q has no value", label)
		}
	}
	return r, nil
}

// Describes tells of an appc reference why an image of that manifest is not the one that it names,
// or nil if it is: the manifest has its name and all of its labels, and maybe more (appc spec,
// discovery.md, "Validation").
func (r Reference) Describes(m *schema.ImageManifest) error {
	if m.Name.String() != r.App {
		return fmt.Errorf("it is called %s in its manifest", m.Name)
	}
	labels := maps.Clone(r.Labels)
	if r.Version != "" {
		labels["version"] = r.Version
	}
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		if value, _ := m.Labels.Get(label); value != labels[label] {
			return fmt.Errorf("its label %s is %q, not %q", label, value, labels[label])
		}
	}
	return nil
}

// Local reports whether the reference names a file or directory of this machine, which may have
// changed since it was fetched and costs little to look at.
func (r Reference) Local() bool { return r.Path != "" }

// Source is what kind of thing the image comes from, in a word for errors.
func (r Reference) Source() string {
	switch r.Kind {
	case Docker, URL:
		return "URL"
	case Appc:
		return "image name"
	case ID:
		return "image ID"
	}
	return "file"
}

// Name is the reference in full, as it is shown: with the default registry and tag filled in,
// labels sorted.
func (r Reference) Name() string {
	switch r.Kind {
	case Docker:
		return r.Host + "/" + r.dockerName()
	case OCILayout, OCIArchive, DockerArchive:
		if r.Tag == "" {
			return string(r.Kind) + ":" + r.Path
		}
		return string(r.Kind) + ":" + r.Path + ":" + r.Tag
	case File:
		return r.Path
	case URL:
		return r.URL
	case ID:
		return r.ID
	}
	name := r.App
	if r.Version != "" {
		name += ":" + r.Version
	}
	for _, label := range slices.Sorted(maps.Keys(r.Labels)) {
		name += "," + label + "=" + r.Labels[label]
	}
	return name
}

func (r Reference) dockerName() string {
	if r.Digest != "" {
		return r.Repository + "@" + r.Digest
	}
	return r.Repository + ":" + r.Tag
}

// Key is where the image store keeps the reference, a relative path that two references share only
// if they mean the same. Registry and appc names are nested directories, and the last part of such
// a key has a ":" or "@" in it that no directory below a registry has, so that no name is in the
// way of another. Paths and URLs are one component, percent-escaped. An ID has no key.
func (r Reference) Key() string {
	switch r.Kind {
	case Docker:
		dir, last := path.Split(r.dockerName())
		return string(Docker) + "/" + r.Host + "/" + dir + shorten(last)
	case OCILayout, OCIArchive, DockerArchive:
		return string(r.Kind) + "/" + component(r.Path+":"+r.Tag)
	case File:
		return string(File) + "/" + component(r.Path)
	case URL:
		return string(URL) + "/" + component(r.URL)
	case Appc:
		dir, last := path.Split(r.App)
		last += ":" + escape(r.Version)
		for _, label := range slices.Sorted(maps.Keys(r.Labels)) {
			last += "," + escape(label) + "=" + escape(r.Labels[label])
		}
		return string(Appc) + "/" + dir + shorten(last)
	}
	return ""
}

// ParseKey gives the reference whose Key that is. A key from which something was cut off, and one
// that no reference has, is none.
func ParseKey(key string) (Reference, bool) {
	kind, rest, _ := strings.Cut(key, "/")
	text, err := url.PathUnescape(rest)
	if last := path.Base(rest); err != nil || len(last) == kept+1+64 && last[kept] == '~' {
		return Reference{}, false
	}
	switch Kind(kind) {
	case Docker:
		text = "docker://" + rest
	case OCILayout, OCIArchive, DockerArchive:
		text = kind + ":" + strings.TrimSuffix(text, ":")
	case File:
		text = "file://" + strings.ReplaceAll(text, "%", "%25")
	case Appc:
		dir, last := path.Split(text)
		name, labels, _ := strings.Cut(last, ":")
		text = dir + name
		if !strings.HasPrefix(labels, ",") && labels != "" {
			text += ":"
		}
		text += labels
	}
	r, err := ParseReference(text)
	return r, err == nil && r.Key() == key
}

// Typed is a name of the image as ParseReference takes it.
func (r Reference) Typed() string {
	if r.Kind == Docker {
		return "docker://" + r.Name()
	}
	return r.Name()
}

// component makes any text one file name.
func component(s string) string { return shorten(escape(s)) }

// escape percent-escapes what is not a letter, a digit or one of "-_.~:+@=". A name of dots only
// would be "." or "..".
func escape(s string) string {
	if strings.Trim(s, ".") == "" {
		return strings.ReplaceAll(s, ".", "%2E")
	}
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-_.~:+@=", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// kept is how much of a name is left that shorten shortens, bytes.
const kept = 150

// shorten keeps a file name below NAME_MAX; what is cut off is replaced by a digest of the whole.
func shorten(s string) string {
	if len(s) <= 240 {
		return s
	}
	return fmt.Sprintf("%s~%x", s[:kept], sha256.Sum256([]byte(s)))
}
