package cni

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

// A plugin ignores arguments and keys of its configuration that it does not know, so that a
// misspelt one is silently nothing. What the plugins of the CNI project know (1.0 to 1.9) is listed
// here. Of another plugin nothing is known, and nothing is refused.

// object is a JSON object of a network's configuration: its keys, and the objects that are the
// values of some, or the elements of these where the value is an array.
type object map[string]object

// keys makes an object from words.
func keys(words string, nested ...object) object {
	o := object{}
	for word := range strings.FieldsSeq(words) {
		o[word] = nil
	}
	for _, n := range nested {
		maps.Copy(o, n)
	}
	return o
}

var (
	dnsKeys   = object{"dns": keys("nameservers domain search options")}
	routeKeys = object{"routes": keys("dst gw mtu advmss priority table scope")}
	rangeKeys = keys("subnet rangeStart rangeEnd gateway")

	// capabilityKeys are those of CNI's conventions, of which portMappings is the one that is used
	// here.
	capabilityKeys = object{"capabilities": keys("portMappings ipRanges bandwidth dns ips mac infinibandGUID " +
		"deviceID aliases cgroupPath")}

	listKeys   = keys("cniVersion cniVersions name disableCheck disableGC loadOnlyInlinedPlugins plugins args")
	commonKeys = keys("cniVersion name type args runtimeConfig", dnsKeys, capabilityKeys)
)

// pluginKeys are the keys of each plugin besides commonKeys and ipam.
var pluginKeys = map[string]object{
	"bandwidth": keys("ingressRate ingressBurst egressRate egressBurst shapedSubnets unshapedSubnets"),
	"bridge": keys("bridge isGateway isDefaultGateway forceAddress ipMasq ipMasqBackend mtu hairpinMode promiscMode "+
		"vlan vlanTrunk preserveDefaultVlan macspoofchk enabledad disableContainerInterface portIsolation",
		object{"vlanTrunk": keys("id minID maxID")}),
	"dummy":       {},
	"firewall":    keys("backend firewalldZone ingressPolicy iptablesAdminChainName"),
	"flannel":     keys("subnetFile dataDir delegate"), // of the delegate's keys none is looked at
	"host-device": keys("device hwaddr kernelpath pciBusID"),
	"ipvlan":      keys("master mode mtu linkInContainer"),
	"loopback":    {},
	"macvlan":     keys("master mode mtu mac linkInContainer bcqueuelen"),
	"portmap":     keys("backend snat masqAll markMasqBit externalSetMarkChain conditionsV4 conditionsV6"),
	"ptp":         keys("ipMasq ipMasqBackend mtu"),
	"sbr":         keys("table"),
	"tuning":      keys("sysctl mac mtu txQLen promisc allmulti dataDir"),
	"vlan":        keys("master vlanId mtu linkInContainer"),
	"vrf":         keys("vrfname table"),
}

// ipamKeys are the keys of "ipam" by its type.
var ipamKeys = map[string]object{
	"dhcp": keys("type daemonSocketPath priority",
		object{"request": keys("skipDefault option"), "provide": keys("option value fromArg")}),
	"host-local": keys("type dataDir resolvConf", rangeKeys, routeKeys, object{"ranges": rangeKeys}),
	"static":     keys("type", dnsKeys, routeKeys, object{"addresses": keys("address gateway")}),
}

// argumentKeys are the arguments (CNI_ARGS) that a plugin takes.
var argumentKeys = map[string][]string{
	"bridge": {"MAC"}, "host-local": {"IP"}, "macvlan": {"MAC"}, "static": {"GATEWAY", "IP"}, "tuning": {"MAC"},
}

// misspelt is an error for an argument or a key that no plugin of the network knows, but nearly
// so. Other keys that are not known here a newer plugin may know, and files of rkt 1.30 have keys
// of one plugin with another (ipMasq with macvlan): warn is told of them.
func (a *attachment) misspelt(warn func(string)) error {
	if err := a.unknownArgument(); err != nil {
		return err
	}
	var list map[string]json.RawMessage
	if err := json.Unmarshal(a.Config, &list); err != nil {
		return err
	}
	delete(list, "plugins") // each is looked at with keys of its own
	head, err := json.Marshal(list)
	if err != nil {
		return err
	}
	report := func(where, problem string, sure bool) error {
		if sure {
			return fmt.Errorf("%s%s", where, problem)
		}
		warn(fmt.Sprintf("%s: %s%s", a.label, where, problem))
		return nil
	}
	if err := look(head, "", listKeys, report); err != nil {
		return err
	}
	for _, plugin := range a.list.Plugins {
		known, ok := pluginKeys[plugin.Network.Type]
		if !ok {
			continue
		}
		known = keys("", commonKeys, known, object{"ipam": ipamKeys[optionsOf(plugin).IPAM.Type]})
		if err := look(plugin.Bytes, "plugin "+plugin.Network.Type+": ", known, report); err != nil {
			return err
		}
	}
	return nil
}

// look compares the keys of a JSON object, or of each of an array of arrays of them, with known
// ones. As plugins do, it takes upper for lower case.
func look(data json.RawMessage, where string, known object, report func(where, problem string, sure bool) error) error {
	var elements []json.RawMessage
	if json.Unmarshal(data, &elements) == nil {
		for _, element := range elements {
			if err := look(element, where, known, report); err != nil {
				return err
			}
		}
		return nil
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return nil // no object: the plugin's to refuse
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		as, ok := known.find(key)
		if !ok {
			problem, sure := known.problem(key)
			if err := report(where, problem, sure); err != nil {
				return err
			}
			continue
		}
		if known[as] != nil {
			if err := look(fields[key], where+as+": ", known[as], report); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o object) find(key string) (string, bool) {
	for known := range o {
		if strings.EqualFold(known, key) {
			return known, true
		}
	}
	return "", false
}

// problem says of a key that is not in o what was meant, and whether that is sure.
func (o object) problem(key string) (problem string, sure bool) {
	if places := placesOf(key); places != nil {
		_, isPlugin := o.find("runtimeConfig")
		if isPlugin && !slices.ContainsFunc(places, func(p string) bool { return !strings.HasPrefix(p, "plugin ") }) {
			return fmt.Sprintf("key %q has no effect; it is one of %s", key, strings.Join(places, ", ")), false
		}
		return fmt.Sprintf("unknown key %q; it is one of %s", key, strings.Join(places, ", ")), true
	}
	if like := nearest(key, slices.Sorted(maps.Keys(o))); like != "" {
		return fmt.Sprintf("unknown key %q; use %q", key, like), true
	}
	return fmt.Sprintf("key %q is not known to rkt; the plugin may ignore it", key), false
}

// placesOf are the places that a key has elsewhere.
func placesOf(key string) (places []string) {
	if _, ok := listKeys.find(key); ok {
		places = append(places, "the network's list")
	}
	if _, ok := commonKeys.find(key); ok {
		places = append(places, "every plugin")
	}
	if _, ok := dnsKeys["dns"].find(key); ok {
		places = append(places, "dns")
	}
	for _, table := range []struct {
		kind string
		keys map[string]object
	}{{"plugin", pluginKeys}, {"ipam type", ipamKeys}} {
		for _, name := range slices.Sorted(maps.Keys(table.keys)) {
			if _, ok := table.keys[name].find(key); ok {
				places = append(places, table.kind+" "+name)
			}
		}
	}
	return places
}

// unknownArgument is an error for an argument of --net that none of the network's plugins takes.
func (a *attachment) unknownArgument() error {
	if a.Args == "" {
		return nil
	}
	known, all := a.arguments()
	for arg := range strings.SplitSeq(a.Args, ";") {
		key, _, _ := strings.Cut(arg, "=")
		like := nearest(key, append(known, "IgnoreUnknown"))
		switch {
		case key == "IgnoreUnknown" || slices.Contains(known, key):
		case like != "":
			return fmt.Errorf("unknown argument %q; use %s", key, like)
		case !all: // another plugin may take it
		case known == nil:
			return fmt.Errorf("unknown argument %q; its plugins take none", key)
		default:
			return fmt.Errorf("unknown argument %q; its plugins take %s", key, strings.Join(known, ", "))
		}
	}
	return nil
}

// arguments are those that the network's plugins take, and whether these are all: not where a
// plugin is not known.
func (a *attachment) arguments() (known []string, all bool) {
	all = true
	for _, program := range a.programs() {
		known = append(known, argumentKeys[program]...)
		_, isPlugin := pluginKeys[program]
		_, isIPAM := ipamKeys[program]
		all = all && (isPlugin || isIPAM)
	}
	for _, plugin := range a.list.Plugins {
		known = append(known, providedByArgument(plugin)...)
	}
	slices.Sort(known)
	return slices.Compact(known), all
}

// providedByArgument are the arguments that the dhcp plugin passes on to the server, as its
// configuration says.
func providedByArgument(plugin *libcni.PluginConfig) (names []string) {
	var config struct {
		IPAM struct {
			Provide []struct {
				FromArg string `json:"fromArg"`
			} `json:"provide"`
		} `json:"ipam"`
	}
	json.Unmarshal(plugin.Bytes, &config) // a value of another type is the plugin's to refuse
	for _, p := range config.IPAM.Provide {
		if p.FromArg != "" {
			names = append(names, p.FromArg)
		}
	}
	return names
}

// nearest is the word that a misspelt one stands for: one that differs in few letters, else one
// that contains it or is contained in it; "" if there is none.
func nearest(word string, known []string) string {
	word = strings.ToLower(word)
	best, least := "", 1+min(2, len(word)/4)
	for _, k := range known {
		if distance := edits(word, strings.ToLower(k)); distance < least {
			best, least = k, distance
		}
	}
	if best != "" {
		return best
	}
	for _, k := range known {
		lower := strings.ToLower(k)
		within := strings.Contains(word, lower) || strings.Contains(lower, word)
		if within && min(len(word), len(lower)) > 3 {
			return k
		}
	}
	return ""
}

// edits is the number of letters to change, add or leave out between two words (Levenshtein).
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
