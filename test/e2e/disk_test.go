package e2e

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
)

// fickleDisk is a disk as a power cut finds it: what was written since the last flush is there, in
// part, or not. It serves a file by the network block device protocol (its doc/proto.md), with the
// fixed newstyle handshake and simple replies.
type fickleDisk struct {
	file *os.File
	lies bool // a flush does nothing

	mu      sync.Mutex
	pending []diskWrite // since the last flush, in order
}

type diskWrite struct {
	offset int64
	data   []byte
}

const sector = 512

// cut ends the power: of what nobody has flushed, each write is there to the end, to some sector,
// or not at all.
func (d *fickleDisk) cut() (lost int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.pending {
		keep := len(w.data)
		switch rand.IntN(3) {
		case 0:
			keep = 0
		case 1:
			keep = rand.IntN(len(w.data)/sector+1) * sector
		}
		if keep < len(w.data) {
			lost++
		}
		_, e := d.file.WriteAt(w.data[:keep], w.offset)
		err = errors.Join(err, e)
	}
	d.pending = nil
	return lost, err
}

func (d *fickleDisk) flush() (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lies {
		return nil
	}
	for _, w := range d.pending {
		_, e := d.file.WriteAt(w.data, w.offset)
		err = errors.Join(err, e)
	}
	d.pending = nil
	return err
}

func (d *fickleDisk) write(data []byte, offset int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending = append(d.pending, diskWrite{offset, data})
}

func (d *fickleDisk) read(data []byte, offset int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.file.ReadAt(data, offset); err != nil {
		return err
	}
	for _, w := range d.pending {
		from, to := max(w.offset, offset), min(w.offset+int64(len(w.data)), offset+int64(len(data)))
		if from < to {
			copy(data[from-offset:to-offset], w.data[from-w.offset:])
		}
	}
	return nil
}

// The numbers of the protocol that are used here.
const (
	nbdOption         = 0x49484156454F5054 // "IHAVEOPT"
	nbdOptionReply    = 0x3e889045565a9
	nbdRequest        = 0x25609513
	nbdReply          = 0x67446698
	nbdFixedNewstyle  = 1 << 0
	nbdNoZeroes       = 1 << 1
	nbdHasFlags       = 1 << 0
	nbdSendFlush      = 1 << 2
	nbdOptAbort       = 2
	nbdOptInfo        = 6
	nbdOptGo          = 7
	nbdReplyAck       = 1
	nbdReplyInfo      = 3
	nbdReplyUnknown   = 1<<31 + 1
	nbdInfoExport     = 0
	nbdRead           = 0
	nbdWrite          = 1
	nbdDisconnect     = 2
	nbdFlush          = 3
	nbdInputOutput    = 5
	nbdNotImplemented = 22
)

// serve answers one client until it has gone.
func (d *fickleDisk) serve(conn net.Conn) error {
	defer conn.Close()
	big := binary.BigEndian
	say := func(values ...any) error {
		var b []byte
		for _, v := range values {
			if text, ok := v.([]byte); ok {
				b = append(b, text...)
			} else {
				b, _ = binary.Append(b, big, v)
			}
		}
		_, err := conn.Write(b)
		return err
	}
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	if err := say([]byte("NBDMAGIC"), uint64(nbdOption), uint16(nbdFixedNewstyle|nbdNoZeroes)); err != nil {
		return err
	}
	var flags uint32
	if err := binary.Read(conn, big, &flags); err != nil {
		return err
	}
	for open := false; !open; {
		var option struct {
			Magic        uint64
			Kind, Length uint32
		}
		if err := binary.Read(conn, big, &option); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, conn, int64(option.Length)); err != nil {
			return err
		}
		answer := func(kind uint32, data ...any) error {
			length := 0
			for _, v := range data {
				length += binary.Size(v)
			}
			return say(slices.Concat([]any{uint64(nbdOptionReply), option.Kind, kind, uint32(length)}, data)...)
		}
		switch option.Kind {
		case nbdOptInfo, nbdOptGo:
			err = errors.Join(answer(nbdReplyInfo, uint16(nbdInfoExport), uint64(info.Size()),
				uint16(nbdHasFlags|nbdSendFlush)), answer(nbdReplyAck))
			open = option.Kind == nbdOptGo
		case nbdOptAbort:
			return answer(nbdReplyAck)
		default:
			err = answer(nbdReplyUnknown)
		}
		if err != nil {
			return err
		}
	}
	for {
		var request struct {
			Magic       uint32
			Flags, Kind uint16
			Cookie      uint64
			Offset      uint64
			Length      uint32
		}
		if err := binary.Read(conn, big, &request); err != nil {
			return err
		}
		var data []byte
		var failed uint32
		switch request.Kind {
		case nbdRead:
			data = make([]byte, request.Length)
			if err := d.read(data, int64(request.Offset)); err != nil {
				failed, data = nbdInputOutput, nil
			}
		case nbdWrite:
			written := make([]byte, request.Length)
			if _, err := io.ReadFull(conn, written); err != nil {
				return err
			}
			d.write(written, int64(request.Offset))
		case nbdFlush:
			if d.flush() != nil {
				failed = nbdInputOutput
			}
		case nbdDisconnect:
			return nil
		default:
			failed = nbdNotImplemented
		}
		if err := say(uint32(nbdReply), failed, request.Cookie, data); err != nil {
			return err
		}
	}
}
