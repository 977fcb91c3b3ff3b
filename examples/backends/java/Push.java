import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.*;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.*;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** Push one event through the gateway with a signed HTTP request. JDK 17 or later, nothing else. */
public class Push {
    static final String USAGE = """
        usage: java Push.java (user <id> | room <room> | broadcast) <event> <json>
        environment: GATEWAY_KEY, GATEWAY_SECRET; optional GATEWAY_URL, IDEMPOTENCY_KEY""";
    static final String KEY = setting("GATEWAY_KEY", ""), SECRET = setting("GATEWAY_SECRET", "");
    // HTTP/1.1, because the client would otherwise request an upgrade to HTTP/2 with every request.
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    record Answer(int status, String retryAfter, String body) {} // status 0: no response

    /** Make one attempt, with a new timestamp and a new nonce. */
    static Answer post(URI url, String body, String idempotencyKey) throws Exception {
        String timestamp = Long.toString(System.currentTimeMillis() / 1000);
        String nonce = UUID.randomUUID().toString();
        String target = url.getRawPath(); // what HttpClient writes into the request line
        byte[] bodySha256 = MessageDigest.getInstance("SHA-256").digest(body.getBytes(UTF_8));
        String text = String.join("\n", "v1", KEY, "POST", target, timestamp, nonce, idempotencyKey,
            HexFormat.of().formatHex(bodySha256));
        Mac hmac = Mac.getInstance("HmacSHA256");
        hmac.init(new SecretKeySpec(SECRET.getBytes(UTF_8), "HmacSHA256"));
        String signature = "v1=" + HexFormat.of().formatHex(hmac.doFinal(text.getBytes(UTF_8)));
        HttpRequest request = HttpRequest.newBuilder(url).timeout(Duration.ofSeconds(10))
            .headers("Content-Type", "application/json", "Idempotency-Key", idempotencyKey,
                "X-Gateway-Key", KEY, "X-Gateway-Timestamp", timestamp,
                "X-Gateway-Nonce", nonce, "X-Gateway-Signature", signature)
            .POST(HttpRequest.BodyPublishers.ofString(body)).build();
        try {
            HttpResponse<String> response = CLIENT.send(request, HttpResponse.BodyHandlers.ofString());
            return new Answer(response.statusCode(), response.headers().firstValue("Retry-After").orElse(""),
                response.body());
        } catch (IOException e) {
            return new Answer(0, "", e.toString());
        }
    }

    static String setting(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }

    static String jsonString(String text) { // for text without control characters
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    static String percentEncode(String text) { // one path segment: all but A-Z a-z 0-9 - . _ ~ becomes %XX
        return URLEncoder.encode(text, UTF_8).replace("+", "%20").replace("*", "%2A").replace("%7E", "~");
    }

    public static void main(String[] args) throws Exception {
        String path = switch ((args.length > 0 ? args[0] : "") + " " + args.length) {
            case "user 4" -> "/emit/user/" + percentEncode(args[1]);
            case "room 4" -> "/emit/room";
            case "broadcast 3" -> "/broadcast";
            default -> "";
        };
        if (path.isEmpty() || KEY.isEmpty() || SECRET.isEmpty()) {
            System.err.println(USAGE);
            System.exit(2);
        }
        String room = args[0].equals("room") ? "\"room\":" + jsonString(args[1]) + "," : "";
        String event = jsonString(args[args.length - 2]), data = args[args.length - 1];
        String body = "{" + room + "\"event\":" + event + ",\"data\":" + data + "}"; // the data as written
        URI url = URI.create(setting("GATEWAY_URL", "http://127.0.0.1:8080").replaceFirst("/$", "") + path);
        // One key for all attempts: the event is delivered once, whatever the first attempt did.
        String idempotencyKey = setting("IDEMPOTENCY_KEY", UUID.randomUUID().toString());
        Answer answer = post(url, body, idempotencyKey);
        for (int tries = 1; tries < 3 && (answer.status == 0 || answer.status == 503); tries++) {
            long seconds = answer.retryAfter.matches("\\d{1,6}") ? Long.parseLong(answer.retryAfter) : 1;
            Thread.sleep(1000 * seconds);
            answer = post(url, body, idempotencyKey);
        }
        if (answer.status < 200 || answer.status > 299) {
            System.err.println(answer.status + " " + answer.body);
            System.exit(1);
        }
        System.out.writeBytes((answer.body + "\n").getBytes(UTF_8));
    }
}
