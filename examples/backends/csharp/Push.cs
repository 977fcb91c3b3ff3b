// Push one event through the gateway with a signed HTTP request. .NET or Mono, no package.
using System;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Tasks;

static class Push
{
    const string Usage = "usage: push (user <id> | room <room> | broadcast) <event> <json>\n"
        + "environment: GATEWAY_KEY, GATEWAY_SECRET; optional GATEWAY_URL, IDEMPOTENCY_KEY";
    static readonly string Key = Setting("GATEWAY_KEY", ""), Secret = Setting("GATEWAY_SECRET", "");
    static readonly TimeSpan TenSeconds = TimeSpan.FromSeconds(10);
    static readonly HttpClient Client =
        new HttpClient(new HttpClientHandler { AllowAutoRedirect = false }) { Timeout = TenSeconds };

    // Make one attempt, with a new timestamp and a new nonce.
    static Task<HttpResponseMessage> Post(Uri url, byte[] body, string idempotencyKey)
    {
        string timestamp = DateTimeOffset.UtcNow.ToUnixTimeSeconds().ToString();
        string nonce = Guid.NewGuid().ToString();
        string target = url.PathAndQuery; // what HttpClient writes into the request line
        string bodySha256 = Hex(SHA256.Create().ComputeHash(body));
        string text = string.Join("\n", "v1", Key, "POST", target, timestamp, nonce, idempotencyKey, bodySha256);
        var hmac = new HMACSHA256(Encoding.UTF8.GetBytes(Secret));
        var request = new HttpRequestMessage(HttpMethod.Post, url) { Content = new ByteArrayContent(body) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        request.Headers.Add("Idempotency-Key", idempotencyKey);
        request.Headers.Add("X-Gateway-Key", Key);
        request.Headers.Add("X-Gateway-Timestamp", timestamp);
        request.Headers.Add("X-Gateway-Nonce", nonce);
        request.Headers.Add("X-Gateway-Signature", "v1=" + Hex(hmac.ComputeHash(Encoding.UTF8.GetBytes(text))));
        return Client.SendAsync(request);
    }

    static string Hex(byte[] bytes) => BitConverter.ToString(bytes).Replace("-", "").ToLowerInvariant();

    static string Setting(string name, string otherwise) =>
        Environment.GetEnvironmentVariable(name) is string value && value != "" ? value : otherwise;

    // For text without control characters.
    static string JsonString(string text) => '"' + text.Replace("\\", "\\\\").Replace("\"", "\\\"") + '"';

    static async Task<int> Run(string path, byte[] body)
    {
        var url = new Uri(Setting("GATEWAY_URL", "http://127.0.0.1:8080").TrimEnd('/') + path);
        // One key for all attempts: the event is delivered once, whatever the first attempt did.
        string idempotencyKey = Setting("IDEMPOTENCY_KEY", Guid.NewGuid().ToString());
        for (int triesLeft = 2; ; triesLeft--)
        {
            int status = 0; // no response
            string answer;
            var pause = TimeSpan.FromSeconds(1);
            try
            {
                HttpResponseMessage response = await Post(url, body, idempotencyKey);
                status = (int)response.StatusCode;
                pause = response.Headers.RetryAfter?.Delta ?? pause;
                answer = await response.Content.ReadAsStringAsync();
            }
            catch (Exception e) when (e is HttpRequestException || e is OperationCanceledException) // timeout
            {
                answer = e.GetBaseException().Message;
            }
            bool success = status >= 200 && status < 300;
            if (success || (status != 0 && status != 503) || triesLeft == 0)
            {
                (success ? Console.Out : Console.Error).WriteLine(success ? answer : status + " " + answer);
                return success ? 0 : 1;
            }
            await Task.Delay(pause);
        }
    }

    static int Main(string[] args)
    {
        string path = "", room = "";
        switch ((args.Length > 0 ? args[0] : "") + " " + args.Length)
        {
            case "user 4": path = "/emit/user/" + Uri.EscapeDataString(args[1]); break;
            case "room 4": path = "/emit/room"; room = "\"room\":" + JsonString(args[1]) + ","; break;
            case "broadcast 3": path = "/broadcast"; break;
        }
        if (path == "" || Key == "" || Secret == "")
        {
            Console.Error.WriteLine(Usage);
            return 2;
        }
        string eventName = JsonString(args[args.Length - 2]), data = args[args.Length - 1]; // as written
        string body = "{" + room + "\"event\":" + eventName + ",\"data\":" + data + "}";
        return Run(path, Encoding.UTF8.GetBytes(body)).GetAwaiter().GetResult();
    }
}
