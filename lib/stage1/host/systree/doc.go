// Package systree owns the directory "systemd" of a data directory: private copies of the files of
// the host's systemd that pods run. A host may be upgraded while its pods run; what they run stays
// what it was.
//
// A tree, systemd/KEY/, has these files at the paths that they have on the host, with every library
// that their loader needs, so that it serves as the root of a pod's systemd without anything else
// of the host. KEY is a digest of all paths and contents. A tree is made whole and under a name
// that nobody looks at, made to last and renamed; it never changes afterwards, except for the file
// "sources".
//
// sources says what a tree was copied from: for each path on the host that decided it the file's
// identity (device, inode, size, and both times), or that there was none. While none differs, the
// tree is what a new one would be; to see that takes no more than a stat(2) each. If one differs,
// the files are copied again, and if their content is the same, so is the tree.
//
// Who uses a tree says so, by a link in a pod's directory, while it holds a shared lock of the
// directory. Who makes or removes one holds the exclusive lock.
package systree
