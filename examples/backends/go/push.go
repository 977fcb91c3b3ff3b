// Push one event through the gateway with a signed HTTP request. Standard library only.
package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const usage = `usage: push (user <id> | room <room> | broadcast) <event> <json>
environment: GATEWAY_KEY, GATEWAY_SECRET; optional GATEWAY_URL, IDEMPOTENCY_KEY`

var client = http.Client{
	Timeout:       10 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// post makes one attempt, with a new timestamp and a new nonce. Status 0 means no response.
func post(url, body, idempotencyKey string) (status int, retryAfter, answer string) {
	request, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		return 0, "", err.Error()
	}
	key, timestamp, nonce := os.Getenv("GATEWAY_KEY"), strconv.FormatInt(time.Now().Unix(), 10), randomHex()
	target := request.URL.RequestURI() // what net/http writes into the request line
	mac := hmac.New(sha256.New, []byte(os.Getenv("GATEWAY_SECRET")))
	fmt.Fprintf(mac, "v1\n%s\nPOST\n%s\n%s\n%s\n%s\n%x",
		key, target, timestamp, nonce, idempotencyKey, sha256.Sum256([]byte(body)))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", idempotencyKey)
	request.Header.Set("X-Gateway-Key", key)
	request.Header.Set("X-Gateway-Timestamp", timestamp)
	request.Header.Set("X-Gateway-Nonce", nonce)
	request.Header.Set("X-Gateway-Signature", fmt.Sprintf("v1=%x", mac.Sum(nil)))
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err.Error()
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body) // the status counts, even if the text is incomplete
	return response.StatusCode, response.Header.Get("Retry-After"), string(text)
}

func randomHex() string {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		panic(err)
	}
	return fmt.Sprintf("%x", random)
}

func jsonString(text string) string {
	quoted, _ := json.Marshal(text) // a string cannot fail
	return string(quoted)
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func main() {
	arguments, path, room := os.Args[1:], "", ""
	configured := os.Getenv("GATEWAY_KEY") != "" && os.Getenv("GATEWAY_SECRET") != ""
	switch {
	case configured && len(arguments) == 4 && arguments[0] == "user":
		path = "/emit/user/" + strings.ReplaceAll(url.QueryEscape(arguments[1]), "+", "%20")
	case configured && len(arguments) == 4 && arguments[0] == "room":
		path, room = "/emit/room", `"room":`+jsonString(arguments[1])+","
	case configured && len(arguments) == 3 && arguments[0] == "broadcast":
		path = "/broadcast"
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	event, data := arguments[len(arguments)-2], arguments[len(arguments)-1]
	body := "{" + room + `"event":` + jsonString(event) + `,"data":` + data + "}" // the data exactly as written
	base := strings.TrimSuffix(setting("GATEWAY_URL", "http://127.0.0.1:8080"), "/")
	// One key for all attempts: the event is delivered once, whatever the first attempt did.
	idempotencyKey := setting("IDEMPOTENCY_KEY", randomHex())
	for try := 1; ; try++ {
		status, retryAfter, answer := post(base+path, body, idempotencyKey)
		if status >= 200 && status < 300 {
			fmt.Println(answer)
			return
		}
		if status != 0 && status != 503 || try == 3 {
			fmt.Fprintln(os.Stderr, status, answer)
			os.Exit(1)
		}
		seconds, _ := strconv.Atoi(retryAfter)
		time.Sleep(time.Duration(seconds+1) * time.Second) // at least one
	}
}
