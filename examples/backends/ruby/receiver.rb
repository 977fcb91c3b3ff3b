#!/usr/bin/env ruby
# Receive client events from the gateway: verify each webhook request and answer it. Ruby 3, standard library only.
require "json"
require "openssl"
require "socket"

TOLERANCE_SECONDS = 300
MAX_BODY_BYTES = 1 << 20
REMEMBERED = 10_000 # more than the requests of two times the tolerance

KEY = ENV["WEBHOOK_SECRET"].to_s.delete_prefix("whsec_").unpack1("m")
ANSWERS = {} # by webhook-id: a repeat has no second effect
LOCK = Mutex.new

# Whether one of the signatures fits the raw body, and the time is within the tolerance.
def authentic?(id, timestamp, signatures, body)
  return false unless /\A\d{1,12}\z/.match?(timestamp) && (Time.now.to_i - timestamp.to_i).abs <= TOLERANCE_SECONDS
  expected = "v1," + [OpenSSL::HMAC.digest("SHA256", KEY, "#{id}.#{timestamp}.".b + body)].pack("m0")
  signatures.split.map { |each| OpenSSL.secure_compare(expected, each) }.any?
end

# Status and answer for an event; your application begins here.
def answer_to(event)
  return [204, nil] if event.fetch("type") != "client.event" # webhook.test, and types of later releases
  data = event.fetch("data")
  if data.fetch("event") != "notification:mark_read"
    return [404, { code: "unknown_event", message: "This backend does not know the event." }]
  end
  id = data.fetch("args").fetch(0).fetch("notificationId")
  raise TypeError, "notificationId is not a string" unless id.is_a?(String)
  if id.start_with?("x")
    return [403, { code: "not_yours", message: "This notification belongs to another user." }]
  end
  puts "read #{id} by #{data.dig("connection", "user")}"
  read = { event: "notification:read", data: { notificationId: id, success: true } }
  [200, { emit: [read], ack: { success: true } }]
end

# The answer to a verified request; a repeat of an id gets the first answer.
def answer_once(id, body)
  LOCK.synchronize do
    ANSWERS[id] ||= begin
      answer_to(JSON.parse(body.force_encoding("UTF-8")))
    rescue JSON::ParserError, KeyError, IndexError, TypeError, NoMethodError
      [400, { code: "invalid_payload", message: "The event has a wrong form." }]
    end
    ANSWERS.shift if ANSWERS.size > REMEMBERED
    ANSWERS[id] || [204, nil]
  end
end

def receive(client)
  client.gets("\r\n", 8192) # the request line
  headers = {}
  while (line = client.gets("\r\n", 8192)&.chomp) && !line.empty? && headers.size < 100
    name, value = line.split(":", 2)
    headers[name.downcase] = value.to_s.strip
  end
  length = headers["content-length"].to_s
  unless /\A\d{1,7}\z/.match?(length) && length.to_i <= MAX_BODY_BYTES
    return [413, { message: "The body is too large, or its length is unknown." }]
  end
  body = client.read(length.to_i).to_s
  id, timestamp, signatures = %w[id timestamp signature].map { |name| headers["webhook-#{name}"].to_s }
  if id.empty? || !authentic?(id, timestamp, signatures, body)
    return [401, { code: "bad_signature", message: "The signature is not valid." }]
  end
  answer_once(id, body)
end

def respond(client, status, answer)
  content = answer ? answer.to_json : ""
  length = answer ? "Content-Type: application/json\r\nContent-Length: #{content.bytesize}\r\n" : ""
  client.write "HTTP/1.1 #{status} #{status}\r\n#{length}Connection: close\r\n\r\n#{content}"
end

abort "environment: WEBHOOK_SECRET (whsec_…); optional PORT" if KEY.empty?
$stdout.sync = true
server = TCPServer.new("127.0.0.1", (ENV["PORT"] || 3000).to_i)
loop do
  Thread.new(server.accept) do |client|
    respond(client, *receive(client))
  rescue SystemCallError, IOError
    nil # the request broke off
  ensure
    client.close
  end
end
