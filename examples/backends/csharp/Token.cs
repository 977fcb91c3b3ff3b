// Print a token for a user: see examples/backends/README.md for the command.
using System;
using System.Security.Cryptography;
using System.Text;

public static class Token
{
    private static string Base64Url(byte[] data) =>
        Convert.ToBase64String(data).TrimEnd('=').Replace('+', '-').Replace('/', '_');

    /// <summary>Return a token for a user, which is valid for an hour. Further claims need a JSON library.</summary>
    public static string GatewayToken(string sub)
    {
        var secret = Environment.GetEnvironmentVariable("GATEWAY_JWT_SECRET");
        if (string.IsNullOrEmpty(secret)) throw new InvalidOperationException("GATEWAY_JWT_SECRET is not set");
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        var user = sub.Replace("\\", "\\\\").Replace("\"", "\\\"");
        var payload = $"{{\"sub\":\"{user}\",\"iat\":{now},\"exp\":{now + 3600}}}";
        var text = Base64Url(Encoding.UTF8.GetBytes("{\"alg\":\"HS256\",\"typ\":\"JWT\"}"))
            + "." + Base64Url(Encoding.UTF8.GetBytes(payload));
        using (var mac = new HMACSHA256(Encoding.UTF8.GetBytes(secret)))
            return text + "." + Base64Url(mac.ComputeHash(Encoding.UTF8.GetBytes(text)));
    }

    public static void Main(string[] arguments) => Console.WriteLine(GatewayToken(arguments[0]));
}
