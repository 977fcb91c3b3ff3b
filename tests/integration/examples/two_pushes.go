// Sends two signed requests on one HTTP connection of net/http, the second after a line on standard input.
// Arguments: method, URL, body, and the headers of each request as JSON.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func send(method, url, body, headers string) {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	request, err := http.NewRequest(method, url, content)
	if err != nil {
		panic(err)
	}
	var values map[string]string
	if err := json.Unmarshal([]byte(headers), &values); err != nil {
		panic(err)
	}
	for name, value := range values {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		fmt.Println("no response")
		return
	}
	defer response.Body.Close()
	if _, err := io.ReadAll(response.Body); err != nil {
		panic(err)
	}
	fmt.Println(response.StatusCode, response.Header.Get("Idempotency-Replayed"))
}

func main() {
	method, url, body := os.Args[1], os.Args[2], os.Args[3]
	send(method, url, body, os.Args[4])
	bufio.NewReader(os.Stdin).ReadString('\n')
	send(method, url, body, os.Args[5])
}
