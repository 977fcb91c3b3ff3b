import static java.nio.charset.StandardCharsets.UTF_8;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.*;
import java.util.concurrent.Executors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** Receive client events from the gateway: verify each webhook request and answer it. JDK 17 or later, nothing else. */
public class Receiver {
    static final int TOLERANCE_SECONDS = 300, MAX_BODY_BYTES = 1 << 20;
    static final int REMEMBERED = 10_000; // more than the requests of two times the tolerance
    static final byte[] KEY = Base64.getDecoder().decode(setting("WEBHOOK_SECRET", "").replaceFirst("^whsec_", ""));

    record Answer(int status, String body) {} // body null: none

    static final Answer INVALID = error(400, "invalid_payload", "The event has a wrong form.");

    /** By webhook-id: a repeat has no second effect. */
    static final Map<String, Answer> ANSWERS = new LinkedHashMap<>() {
        @Override protected boolean removeEldestEntry(Map.Entry<String, Answer> eldest) { return size() > REMEMBERED; }
    };

    /** Whether one of the signatures fits the raw body, and the time is within the tolerance. */
    static boolean isAuthentic(String id, String timestamp, String signatures, byte[] body) {
        if (!timestamp.matches("\\d{1,12}")) return false;
        if (Math.abs(Instant.now().getEpochSecond() - Long.parseLong(timestamp)) > TOLERANCE_SECONDS) return false;
        Mac hmac = hmac();
        hmac.update((id + "." + timestamp + ".").getBytes(UTF_8));
        byte[] expected = ("v1," + Base64.getEncoder().encodeToString(hmac.doFinal(body))).getBytes(UTF_8);
        boolean found = false;
        for (String each : signatures.split(" ")) found |= MessageDigest.isEqual(expected, each.getBytes(UTF_8));
        return found;
    }

    static Mac hmac() {
        try {
            Mac hmac = Mac.getInstance("HmacSHA256");
            hmac.init(new SecretKeySpec(KEY, "HmacSHA256"));
            return hmac;
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e); // every JDK has this algorithm
        }
    }

    /** Status and JSON answer for an event; your application begins here. */
    static Answer answerTo(Object event) {
        if (!"client.event".equals(text(event, "type"))) return new Answer(204, null); // webhook.test and later types
        Object data = ((Map<?, ?>) event).get("data");
        if (!text(data, "event").equals("notification:mark_read")) {
            return error(404, "unknown_event", "This backend does not know the event.");
        }
        String id = text(((List<?>) ((Map<?, ?>) data).get("args")).get(0), "notificationId");
        if (id.startsWith("x")) return error(403, "not_yours", "This notification belongs to another user.");
        System.out.println("read " + id + " by " + text(((Map<?, ?>) data).get("connection"), "user"));
        return new Answer(200, "{\"emit\":[{\"event\":\"notification:read\",\"data\":{\"notificationId\":" + quoted(id)
            + ",\"success\":true}}],\"ack\":{\"success\":true}}");
    }

    /** The answer to a verified request; a repeat of an id gets the first answer. */
    static synchronized Answer answerOnce(String id, byte[] body) {
        return ANSWERS.computeIfAbsent(id, ignored -> {
            try {
                return answerTo(new Json(new String(body, UTF_8)).whole());
            } catch (ClassCastException | IndexOutOfBoundsException | IllegalArgumentException | NullPointerException e) {
                return INVALID;
            }
        });
    }

    static Answer receive(HttpExchange exchange) throws IOException {
        byte[] body = exchange.getRequestBody().readNBytes(MAX_BODY_BYTES + 1);
        if (body.length > MAX_BODY_BYTES) return error(413, "too_large", "The body is too large.");
        String id = header(exchange, "webhook-id"), timestamp = header(exchange, "webhook-timestamp");
        if (id.isEmpty() || !isAuthentic(id, timestamp, header(exchange, "webhook-signature"), body)) {
            return error(401, "bad_signature", "The signature is not valid.");
        }
        return answerOnce(id, body);
    }

    static void respond(HttpExchange exchange) throws IOException {
        try (exchange) {
            Answer answer = receive(exchange);
            byte[] content = answer.body == null ? new byte[0] : answer.body.getBytes(UTF_8);
            if (content.length > 0) exchange.getResponseHeaders().set("Content-Type", "application/json");
            exchange.sendResponseHeaders(answer.status, content.length == 0 ? -1 : content.length);
            exchange.getResponseBody().write(content);
        }
    }

    static Answer error(int status, String code, String message) {
        return new Answer(status, "{\"code\":" + quoted(code) + ",\"message\":" + quoted(message) + "}");
    }

    static String text(Object map, String name) {
        return (String) Objects.requireNonNull(((Map<?, ?>) map).get(name));
    }

    static String header(HttpExchange exchange, String name) {
        return Objects.requireNonNullElse(exchange.getRequestHeaders().getFirst(name), "");
    }

    static String setting(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }

    static String quoted(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') json.append('\\').append(c);
            else if (c < ' ' || Character.isSurrogate(c)) json.append(String.format("\\u%04x", (int) c));
            else json.append(c);
        }
        return json.append('"').toString();
    }

    public static void main(String[] args) throws IOException {
        if (KEY.length == 0) {
            System.err.println("environment: WEBHOOK_SECRET (whsec_…); optional PORT");
            System.exit(2);
        }
        int port = Integer.parseInt(setting("PORT", "3000"));
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.createContext("/", Receiver::respond);
        server.setExecutor(Executors.newFixedThreadPool(16));
        server.start();
    }

    /** A small JSON parser, because the JDK has none; a program with a JSON library uses that. Numbers stay text. */
    static final class Json {
        private final String text;
        private int at;

        Json(String text) { this.text = text; }

        Object whole() {
            Object value = value(0);
            if (next() != '\0') throw new IllegalArgumentException("text after the value");
            return value;
        }

        private Object value(int depth) {
            if (depth > 64) throw new IllegalArgumentException("nested too deeply");
            switch (next()) {
                case '{':
                    Map<String, Object> map = new LinkedHashMap<>();
                    for (at++; next() != '}'; ) {
                        if (!map.isEmpty()) take(',');
                        next();
                        String name = string();
                        take(':');
                        map.put(name, value(depth + 1));
                    }
                    at++;
                    return map;
                case '[':
                    List<Object> list = new ArrayList<>();
                    for (at++; next() != ']'; ) {
                        if (!list.isEmpty()) take(',');
                        list.add(value(depth + 1));
                    }
                    at++;
                    return list;
                case '"':
                    return string();
                default:
                    int start = at;
                    while (at < text.length() && ",]} \t\r\n".indexOf(text.charAt(at)) < 0) at++;
                    String word = text.substring(start, at);
                    if (!word.matches("true|false|null|-?\\d+(\\.\\d+)?([eE][-+]?\\d+)?")) {
                        throw new IllegalArgumentException("no JSON value");
                    }
                    return new StringBuilder(word); // so that it is no String
            }
        }

        private String string() {
            take('"');
            StringBuilder found = new StringBuilder();
            for (char c; (c = text.charAt(at++)) != '"'; ) {
                if (c != '\\') {
                    found.append(c);
                } else if ((c = text.charAt(at++)) == 'u') {
                    found.append((char) Integer.parseInt(text.substring(at, at += 4), 16));
                } else {
                    found.append("\"\\/\b\f\n\r\t".charAt("\"\\/bfnrt".indexOf(c)));
                }
            }
            return found.toString();
        }

        private char next() {
            while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) at++;
            return at < text.length() ? text.charAt(at) : '\0';
        }

        private void take(char wanted) {
            if (next() != wanted) throw new IllegalArgumentException("a " + wanted + " is missing");
            at++;
        }
    }
}
