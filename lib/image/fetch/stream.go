package fetch

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/rkt-toolkit/rkt/lib/image/store"
	"github.com/rkt-toolkit/rkt/lib/image/unpack"
	"github.com/therootcompany/xz"
)

// verifier reads a blob and fails at its end, or as soon as it is too long, if it is not the one
// that was promised.
type verifier struct {
	ctx      context.Context
	cancel   func() // ends a read that waits for the network; may be nil
	r        io.Reader
	digest   string    // "sha256:…"; "" if none is known
	hash     hash.Hash // nil if no digest is known
	size     int64     // -1 if unknown
	max      int64     // the most that is read; 0 means no limit
	got      int64
	seen     atomic.Int64 // got, for other goroutines
	progress func(got int64)
	err      error // for ever, once it is set
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err == nil {
		v.err = v.ctx.Err()
	}
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.r.Read(p)
	v.got += int64(n)
	v.seen.Store(v.got)
	if v.hash != nil {
		v.hash.Write(p[:n])
	}
	if v.progress != nil && n > 0 {
		v.progress(v.got)
	}
	switch {
	case v.size >= 0 && v.got > v.size:
		v.err = fmt.Errorf("longer than its %d bytes", v.size)
		return 0, v.err
	case v.max > 0 && v.got > v.max:
		v.err = fmt.Errorf("longer than %d bytes", v.max)
		return 0, v.err
	case err == nil:
	case v.ctx.Err() != nil:
		v.err = v.ctx.Err()
	case v.size >= 0 && v.got < v.size && err != io.EOF && err != io.ErrUnexpectedEOF:
		v.err = fmt.Errorf("truncated: %d of %d bytes: %w", v.got, v.size, err)
	case v.size >= 0 && v.got < v.size:
		v.err = fmt.Errorf("truncated: %d of %d bytes", v.got, v.size)
	case v.hash != nil && fmt.Sprintf("sha256:%x", v.hash.Sum(nil)) != v.digest:
		v.err = fmt.Errorf("digest mismatch: got sha256:%x", v.hash.Sum(nil))
	default:
		v.err = err
		if v.size < 0 && v.progress != nil { // now it is known
			v.size = v.got
			v.progress(v.got)
		}
	}
	return n, v.err
}

// compression is how a file that begins so is compressed, nil if it is not. The first bytes tell,
// because media types and file names are at times wrong; and enough of them that no name of a file
// does, with which a tar archive begins.
func compression(head []byte) func(io.Reader) (io.ReadCloser, error) {
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b\x08")):
		return func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return func(r io.Reader) (io.ReadCloser, error) {
			// The window is what the zstd program itself accepts without being told to.
			z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxWindow(128<<20))
			if err != nil {
				return nil, err
			}
			return z.IOReadCloser(), nil
		}
	case bytes.HasPrefix(head, []byte("BZh")) && (bytes.HasSuffix(head, []byte("1AY&SY")) ||
		bytes.HasSuffix(head, []byte("\x17rE8P\x90"))):
		return func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return func(r io.Reader) (io.ReadCloser, error) {
			z, err := xz.NewReader(r, 64<<20) // what "xz -9" needs
			if err != nil {
				return nil, err
			}
			return io.NopCloser(z), nil
		}
	}
	return nil
}

const maxMagic = 10 // bytes, of bzip2

func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 256<<10)
	head, err := b.Peek(maxMagic)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if open := compression(head); open != nil {
		return open(b)
	}
	return io.NopCloser(b), nil
}

// pump reads ahead in a goroutine, so that inflating and making files each have a CPU, and
// hashes what it hands on.
type pump struct {
	full, free chan []byte
	stop, done chan struct{}
	rest, last []byte
	hash       hash.Hash
	err        error // of the goroutine, when full is closed
}

const (
	chunkSize = 256 << 10
	chunks    = 6
)

func newPump(r io.Reader, h hash.Hash) *pump {
	p := &pump{
		full: make(chan []byte, chunks), free: make(chan []byte, chunks),
		stop: make(chan struct{}), done: make(chan struct{}), hash: h,
	}
	for range chunks {
		p.free <- nil
	}
	go func() {
		defer close(p.done)
		defer close(p.full)
		for {
			var chunk []byte
			select {
			case chunk = <-p.free:
			case <-p.stop:
				return
			}
			if chunk == nil {
				chunk = make([]byte, chunkSize)
			}
			n, err := 0, error(nil)
			for n < chunkSize && err == nil {
				var m int
				m, err = r.Read(chunk[n:chunkSize])
				n += m
			}
			p.err = err
			if n > 0 {
				p.full <- chunk[:n] // there is room for all chunks
			}
			if err != nil {
				return
			}
		}
	}()
	return p
}

func (p *pump) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.last != nil {
			p.free <- p.last
			p.last = nil
		}
		chunk, ok := <-p.full
		if !ok {
			return 0, p.err
		}
		p.hash.Write(chunk)
		p.rest, p.last = chunk, chunk
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// close ends the goroutine, which must not read any more when the source is closed.
func (p *pump) close() {
	close(p.stop)
	<-p.done
}

// unpackStream unpacks a blob into a layer and hashes the uncompressed stream. It reads the blob to
// its end, and when that is not the blob that was promised, it says so rather than what came of it.
func unpackStream(l *store.Layer, v *verifier, h hash.Hash, o unpack.Options) error {
	return eachByte(v, h, func(r io.Reader) error { return unpack.Keep(l.Dir, l.Root, r, o) })
}

// eachByte gives use the uncompressed stream of a blob.
func eachByte(v *verifier, h hash.Hash, use func(io.Reader) error) error {
	plain, err := decompress(v)
	if err == nil {
		p := newPump(plain, h)
		err = use(p)
		if err != nil && !errors.Is(err, unpack.ErrArchive) && v.cancel != nil {
			v.cancel()
		}
		p.close()
		plain.Close()
	} else {
		err = fmt.Errorf("%w: %w", unpack.ErrArchive, err)
	}
	if err != nil && (!errors.Is(err, unpack.ErrArchive) || v.hash == nil && v.size < 0) {
		return err // nothing that the rest of the blob could explain
	}
	if _, cause := io.Copy(io.Discard, v); cause != nil {
		return cause
	}
	return err
}

// unpackLimits are the limits for a blob of that size.
func unpackLimits(o Options, size int64) unpack.Options {
	return unpack.Options{MaxBytes: maxUnpacked(o, size), MaxEntries: o.MaxEntries}
}

// maxUnpacked is what a blob of that size may unpack to, bytes.
func maxUnpacked(o Options, size int64) int64 {
	if !o.AnyRatio && size < o.MaxBytes/maxRatio {
		return min(o.MaxBytes, freeBytes+size*maxRatio)
	}
	return o.MaxBytes
}

// readSmall reads a blob that is to be held in memory.
func readSmall(v *verifier, max int64) ([]byte, error) {
	if v.size > max {
		return nil, fmt.Errorf("larger than %d bytes", max)
	}
	data, err := io.ReadAll(io.LimitReader(v, max+1))
	if err == nil && int64(len(data)) > max {
		err = fmt.Errorf("larger than %d bytes", max)
	}
	return data, err
}
