// Sends signed pushes on pooled connections of net/http. Argument: milliseconds after which idle connections are closed.
// Each line of standard input: worker, milliseconds to wait, URL, body, headers, separated by tabs. Prints each status.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

var client *http.Client

func send(fields []string) string {
	request, err := http.NewRequest("POST", fields[2], strings.NewReader(fields[3]))
	if err != nil {
		panic(err)
	}
	for _, header := range fields[4:] {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	if _, err := io.ReadAll(response.Body); err != nil {
		return err.Error()
	}
	return strconv.Itoa(response.StatusCode)
}

func main() {
	idle, _ := strconv.Atoi(os.Args[1])
	client = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Duration(idle) * time.Millisecond}}
	workers := map[string][][]string{}
	scanner := bufio.NewScanner(os.Stdin)
	for scanner.Scan() {
		fields := strings.Split(scanner.Text(), "\t")
		workers[fields[0]] = append(workers[fields[0]], fields)
	}
	var running sync.WaitGroup
	for _, lines := range workers {
		running.Add(1)
		go func(lines [][]string) {
			defer running.Done()
			for _, fields := range lines {
				pause, _ := strconv.Atoi(fields[1])
				time.Sleep(time.Duration(pause) * time.Millisecond)
				fmt.Println(send(fields))
			}
		}(lines)
	}
	running.Wait()
}
