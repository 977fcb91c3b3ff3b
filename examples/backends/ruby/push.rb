#!/usr/bin/env ruby
# Push one event through the gateway with a signed HTTP request. Ruby 3, standard library only.
require "erb"
require "json"
require "net/http"
require "openssl"
require "securerandom"

USAGE = <<~END
  usage: push.rb (user <id> | room <room> | broadcast) <event> <json>
  environment: GATEWAY_KEY, GATEWAY_SECRET; optional GATEWAY_URL, IDEMPOTENCY_KEY
END

# The headers of one attempt, with a new timestamp and a new nonce.
def signed_headers(target, body, idempotency_key)
  key, timestamp, nonce = ENV["GATEWAY_KEY"], Time.now.to_i.to_s, SecureRandom.uuid
  body_sha256 = OpenSSL::Digest::SHA256.hexdigest(body)
  text = ["v1", key, "POST", target, timestamp, nonce, idempotency_key, body_sha256].join("\n")
  {
    "Content-Type" => "application/json",
    "Idempotency-Key" => idempotency_key,
    "X-Gateway-Key" => key,
    "X-Gateway-Timestamp" => timestamp,
    "X-Gateway-Nonce" => nonce,
    "X-Gateway-Signature" => "v1=" + OpenSSL::HMAC.hexdigest("SHA256", ENV["GATEWAY_SECRET"], text)
  }
end

# Make one attempt. Returns status, Retry-After and body of the response; status 0 means no response.
def post(url, body, idempotency_key)
  headers = signed_headers(url.path, body, idempotency_key) # Net::HTTP sends this path unchanged
  options = { use_ssl: url.scheme == "https", open_timeout: 10, read_timeout: 10 }
  answer = Net::HTTP.start(url.hostname, url.port, options) { |http| http.post(url.path, body, headers) }
  [answer.code.to_i, answer["Retry-After"], answer.body]
rescue SystemCallError, SocketError, IOError, Timeout::Error, OpenSSL::SSL::SSLError => e
  [0, nil, e.message]
end

configured = ENV.values_at("GATEWAY_KEY", "GATEWAY_SECRET").none? { |value| value.to_s.empty? }
case configured && ARGV.map { |argument| argument.dup.force_encoding("UTF-8") }
in ["user", user, event, data]
  path, room = "/emit/user/#{ERB::Util.url_encode(user)}", ""
in ["room", room, event, data]
  path, room = "/emit/room", %("room":#{room.to_json},)
in ["broadcast", event, data]
  path, room = "/broadcast", ""
else
  warn USAGE
  exit 2
end
base = ENV["GATEWAY_URL"].to_s.empty? ? "http://127.0.0.1:8080" : ENV["GATEWAY_URL"]
url = URI(base.chomp("/") + path)
body = %({#{room}"event":#{event.to_json},"data":#{data}}) # the data exactly as written
# One key for all attempts: the event is delivered once, whatever the first attempt did.
idempotency_key = ENV["IDEMPOTENCY_KEY"].to_s.empty? ? SecureRandom.uuid : ENV["IDEMPOTENCY_KEY"]
status = retry_after = answer = nil
2.downto(0) do |tries_left|
  status, retry_after, answer = post(url, body, idempotency_key)
  break if ![0, 503].include?(status) || tries_left.zero?
  sleep(/\A\d+\z/.match?(retry_after) ? retry_after.to_i : 1)
end
if (200..299).cover?(status)
  puts answer
else
  warn "#{status} #{answer}"
  exit 1
end
