// The Go peer of bench/drain/drain.py and bench/speed/pool.py: net/http, stopped the way its documentation says.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

var slow uint64 // requests for /slow

func number(r *http.Request, name string) int {
	n, _ := strconv.Atoi(r.URL.Query().Get(name))
	return n
}

func main() {
	address, root := os.Args[1], os.Args[2] // then: TLS address, certificate, key
	mux := http.NewServeMux()
	mux.HandleFunc("/small", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "Hello World\n")
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		ms, oneIn := number(r, "ms"), number(r, "one_in")
		if ms > 0 && (oneIn == 0 || atomic.AddUint64(&slow, 1)%uint64(oneIn) == 0) {
			time.Sleep(time.Duration(ms) * time.Millisecond)
		}
		io.WriteString(w, "Hello World\n")
	})
	mux.HandleFunc("/burn", func(w http.ResponseWriter, r *http.Request) {
		us := number(r, "us")
		for begun := time.Now(); us > 0 && time.Since(begun) < time.Duration(us)*time.Microsecond; {
		}
		io.WriteString(w, "Hello World\n")
	})
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d\n", n)
	})
	mux.Handle("/", http.FileServer(http.Dir(root)))

	server := &http.Server{Addr: address, Handler: mux}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		if err := server.ListenAndServe(); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()
	if len(os.Args) > 3 {
		listener, err := net.Listen("tcp", os.Args[3])
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			if err := server.ServeTLS(listener, os.Args[4], os.Args[5]); err != http.ErrServerClosed {
				log.Fatal(err)
			}
		}()
	}
	<-ctx.Done()
	if err := server.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
}
