// Loopback talks to itself over TCP and says whether that worked. As a 32-bit program for i386 it
// is one that makes all its socket calls by socketcall(2), as Debian's C library for i386 does (Go:
// syscall/syscall_linux_386.go; glibc configured for Linux older than 4.3).
package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	if err := talk(); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("answered")
}

func talk() error {
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		if connection, err := server.Accept(); err == nil {
			connection.Write([]byte("hello"))
			connection.Close()
		}
	}()
	client, err := net.Dial("tcp4", server.Addr().String())
	if err != nil {
		return err
	}
	text, err := io.ReadAll(client)
	if err == nil && string(text) != "hello" {
		err = fmt.Errorf("answer %q", text)
	}
	return err
}
