// Print a token for a user: GATEWAY_JWT_SECRET=… java Token.java alice
import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Instant;
import java.util.Base64;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public final class Token {
    private static final Base64.Encoder BASE64URL = Base64.getUrlEncoder().withoutPadding();

    /** Return a token for a user, which is valid for an hour. Further claims need a JSON library. */
    static String gatewayToken(String sub) throws Exception {
        String secret = System.getenv("GATEWAY_JWT_SECRET");
        if (secret == null || secret.isEmpty()) throw new IllegalStateException("GATEWAY_JWT_SECRET is not set");
        long now = Instant.now().getEpochSecond();
        String user = sub.replace("\\", "\\\\").replace("\"", "\\\"");
        String payload = "{\"sub\":\"" + user + "\",\"iat\":" + now + ",\"exp\":" + (now + 3600) + "}";
        String text = encode("{\"alg\":\"HS256\",\"typ\":\"JWT\"}".getBytes(UTF_8)) + "." + encode(payload.getBytes(UTF_8));
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(secret.getBytes(UTF_8), "HmacSHA256"));
        return text + "." + encode(mac.doFinal(text.getBytes(UTF_8)));
    }

    private static String encode(byte[] data) {
        return BASE64URL.encodeToString(data);
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println(gatewayToken(arguments[0]));
    }
}
