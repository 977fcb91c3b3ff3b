// Receive client events from the gateway: verify each webhook request and answer it. Standard library only.
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	tolerance    = 300 * time.Second
	maxBodyBytes = 1 << 20
	remembered   = 10_000 // more than the requests of two times the tolerance
)

type object map[string]any

type answer struct {
	status int
	body   any
}

type event struct {
	Type string
	Data struct {
		Event      string
		Args       []json.RawMessage
		Connection struct{ User string }
	}
}

var (
	key     []byte
	lock    sync.Mutex
	answers = map[string]answer{} // by webhook-id: a repeat has no second effect
	ids     []string              // of the answers, oldest first
	invalid = answer{400, object{"code": "invalid_payload", "message": "The event has a wrong form."}}
)

// isAuthentic reports whether one of the signatures fits the raw body, and the time is within the tolerance.
func isAuthentic(id, timestamp, signatures string, body []byte) bool {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if age := time.Since(time.Unix(seconds, 0)); err != nil || age > tolerance || age < -tolerance {
		return false
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	found := false
	for _, each := range strings.Fields(signatures) {
		found = hmac.Equal(expected, []byte(each)) || found
	}
	return found
}

// answerTo returns status and JSON answer for an event; your application begins here.
func answerTo(body []byte) answer {
	var received event
	if json.Unmarshal(body, &received) != nil || received.Type == "" {
		return invalid
	}
	if received.Type != "client.event" {
		return answer{204, nil} // webhook.test, and types of later releases
	}
	if received.Data.Event == "" {
		return invalid
	}
	if received.Data.Event != "notification:mark_read" {
		return answer{404, object{"code": "unknown_event", "message": "This backend does not know the event."}}
	}
	var argument struct{ NotificationId *string }
	if len(received.Data.Args) == 0 || json.Unmarshal(received.Data.Args[0], &argument) != nil ||
		argument.NotificationId == nil {
		return invalid
	}
	id := *argument.NotificationId
	if strings.HasPrefix(id, "x") {
		return answer{403, object{"code": "not_yours", "message": "This notification belongs to another user."}}
	}
	fmt.Println("read", id, "by", received.Data.Connection.User)
	read := object{"event": "notification:read", "data": object{"notificationId": id, "success": true}}
	return answer{200, object{"emit": []object{read}, "ack": object{"success": true}}}
}

// answerOnce returns the answer to a verified request; a repeat of an id gets the first answer.
func answerOnce(id string, body []byte) answer {
	lock.Lock()
	defer lock.Unlock()
	if known, ok := answers[id]; ok {
		return known
	}
	if len(ids) == remembered {
		delete(answers, ids[0])
		ids = ids[1:]
	}
	answers[id], ids = answerTo(body), append(ids, id)
	return answers[id]
}

func receive(response http.ResponseWriter, request *http.Request) answer {
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, maxBodyBytes))
	if err != nil {
		return answer{413, object{"message": "The body is too large."}}
	}
	id, timestamp := request.Header.Get("webhook-id"), request.Header.Get("webhook-timestamp")
	if id == "" || !isAuthentic(id, timestamp, request.Header.Get("webhook-signature"), body) {
		return answer{401, object{"code": "bad_signature", "message": "The signature is not valid."}}
	}
	return answerOnce(id, body)
}

func handle(response http.ResponseWriter, request *http.Request) {
	found := receive(response, request)
	var content bytes.Buffer
	if found.body != nil {
		response.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(&content).Encode(found.body); err != nil {
			panic(err)
		}
	}
	response.WriteHeader(found.status)
	response.Write(content.Bytes()) // an error means that the gateway is gone
}

func main() {
	var err error
	key, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("WEBHOOK_SECRET"), "whsec_"))
	if err != nil || len(key) == 0 {
		fmt.Fprintln(os.Stderr, "environment: WEBHOOK_SECRET (whsec_…); optional PORT")
		os.Exit(2)
	}
	port := os.Getenv("PORT")
	if port == "" {
		port = "3000"
	}
	server := http.Server{
		Addr: "127.0.0.1:" + port, Handler: http.HandlerFunc(handle), ReadTimeout: 30 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}
