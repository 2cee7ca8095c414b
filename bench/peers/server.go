// The Go peer of bench/drain.py: net/http, stopped the way its documentation says.
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
	"syscall"
	"time"
)

func main() {
	address, root := os.Args[1], os.Args[2] // then: TLS address, certificate, key
	mux := http.NewServeMux()
	mux.HandleFunc("/small", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "Hello World\n")
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.URL.Query().Get("ms"))
		time.Sleep(time.Duration(ms) * time.Millisecond)
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
