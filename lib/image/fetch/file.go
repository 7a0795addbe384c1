package fetch

import (
	"context"
	"fmt"
	"time"

	"github.com/rkt-toolkit/rkt/lib/image"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"golang.org/x/sys/unix"
)

// settled is how long ago a file must have been changed for its times to tell the next change: file
// systems keep them in steps, of two seconds at the worst.
const settled = 3 * time.Second

// fingerprint tells a file from every other and from itself after a change, which nobody but root
// can hide: the kernel keeps the time of the last change of the inode. It is "" if the reference is
// of no file, or of one that was changed a moment ago.
func fingerprint(ref image.Reference, o Options) string {
	var st unix.Stat_t
	switch ref.Kind {
	case image.File, image.OCIArchive, image.DockerArchive:
	default:
		return ""
	}
	if unix.Stat(ref.Path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG ||
		time.Since(time.Unix(st.Ctim.Unix())) < o.settled {
		return ""
	}
	return fmt.Sprintf("%d:%d %d %d %d", st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
}

// unchangedFile gives the image of a file that was read before and has not been changed since, so
// that it need not be read again: a service whose image is a file starts as fast as any other.
func unchangedFile(s *store.Store, ref image.Reference, print string, o Options) (string, bool) {
	if print == "" || o.Signature != "" || ref.Kind != image.File && !o.InsecureImage {
		// what signs an archive's image is in it
		return "", false
	}
	known, err := s.Remote(ref)
	if err != nil || known.File != print {
		return "", false
	}
	img, err := s.Image(known.ID)
	if err != nil || o.resolver(s).Check(img, ref) != nil || o.PullPolicy == Update &&
		len(img.Manifest.Dependencies) > 0 {
		// which may have changed
		return "", false
	}
	return img.ID, true
}

// rememberFile notes which image a file is, if it still is the file that it was before it was read.
func rememberFile(ctx context.Context, s *store.Store, ref image.Reference, print, id string, o Options) error {
	if print == "" || fingerprint(ref, o) != print {
		return nil
	}
	img, err := s.Image(id)
	if err != nil {
		return err
	}
	return s.SetRemote(ctx, ref, store.Remote{ID: id, Manifest: img.Manifest, File: print})
}
