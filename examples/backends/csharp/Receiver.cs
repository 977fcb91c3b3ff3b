// Receive client events from the gateway: verify each webhook request and answer it. .NET or Mono, no package.
using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Runtime.Serialization.Json;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Tasks;
using System.Xml;

static class Receiver
{
    const int ToleranceSeconds = 300, MaxBodyBytes = 1 << 20;
    const int Remembered = 10000; // more than the requests of two times the tolerance
    static readonly byte[] Key = Convert.FromBase64String(Setting("WEBHOOK_SECRET", "").Replace("whsec_", ""));
    static readonly Dictionary<string, Answer> Answers = new Dictionary<string, Answer>(); // by webhook-id
    static readonly Queue<string> Ids = new Queue<string>(); // of the answers, oldest first
    static readonly Answer Invalid = Error(400, "invalid_payload", "The event has a wrong form.");

    sealed class Answer
    {
        public int Status;
        public string Body; // null: none
    }

    // Whether one of the signatures fits the raw body, and the time is within the tolerance.
    static bool IsAuthentic(string id, string timestamp, string signatures, byte[] body)
    {
        bool hasTime = long.TryParse(timestamp, out long seconds) && timestamp.Length <= 12;
        if (!hasTime || Math.Abs(DateTimeOffset.UtcNow.ToUnixTimeSeconds() - seconds) > ToleranceSeconds)
            return false;
        byte[] head = Encoding.UTF8.GetBytes(id + "." + timestamp + ".");
        var text = new byte[head.Length + body.Length];
        head.CopyTo(text, 0);
        body.CopyTo(text, head.Length);
        string expected = "v1," + Convert.ToBase64String(new HMACSHA256(Key).ComputeHash(text));
        bool found = false;
        foreach (string each in signatures.Split(' '))
            found |= AreEqual(expected, each);
        return found;
    }

    // In constant time. .NET has CryptographicOperations.FixedTimeEquals for this; Mono lacks it.
    static bool AreEqual(string expected, string given)
    {
        int difference = expected.Length ^ given.Length;
        for (int i = 0; i < expected.Length && i < given.Length; i++)
            difference |= expected[i] ^ given[i];
        return difference == 0;
    }

    // Status and JSON answer for an event; your application begins here.
    static Answer AnswerTo(XmlNode json)
    {
        if (Text(json, "type") != "client.event")
            return new Answer { Status = 204 }; // webhook.test, and types of later releases
        if (Text(json, "data/event") != "notification:mark_read")
            return Error(404, "unknown_event", "This backend does not know the event.");
        string id = Text(json, "data/args/item[1]/notificationId");
        if (id.StartsWith("x", StringComparison.Ordinal))
            return Error(403, "not_yours", "This notification belongs to another user.");
        Console.WriteLine("read " + id + " by " + Text(json, "data/connection/user"));
        string read = "{\"event\":\"notification:read\",\"data\":{\"notificationId\":" + JsonString(id)
            + ",\"success\":true}}";
        return new Answer { Status = 200, Body = "{\"emit\":[" + read + "],\"ack\":{\"success\":true}}" };
    }

    // A string of the event.
    static string Text(XmlNode json, string path)
    {
        XmlNode found = json.SelectSingleNode("/root/" + path);
        if (found == null || found.Attributes["type"].Value != "string")
            throw new XmlException(path + " is not a string");
        return found.InnerText;
    }

    // The answer to a verified request; a repeat of an id gets the first answer.
    static Answer AnswerOnce(string id, byte[] body)
    {
        lock (Answers)
        {
            if (Answers.TryGetValue(id, out Answer answer))
                return answer;
            try
            {
                var json = new XmlDocument();
                json.Load(JsonReaderWriterFactory.CreateJsonReader(body, XmlDictionaryReaderQuotas.Max));
                answer = AnswerTo(json);
            }
            catch (XmlException)
            {
                answer = Invalid;
            }
            if (Ids.Count == Remembered)
                Answers.Remove(Ids.Dequeue());
            Ids.Enqueue(id);
            return Answers[id] = answer;
        }
    }

    static async Task<Answer> Receive(HttpListenerRequest request)
    {
        var body = new MemoryStream();
        var part = new byte[16384];
        for (int read; (read = await request.InputStream.ReadAsync(part, 0, part.Length)) > 0;)
        {
            body.Write(part, 0, read);
            if (body.Length > MaxBodyBytes)
                return Error(413, "too_large", "The body is too large.");
        }
        string id = request.Headers["webhook-id"] ?? "", timestamp = request.Headers["webhook-timestamp"] ?? "";
        string signatures = request.Headers["webhook-signature"] ?? "";
        return id != "" && IsAuthentic(id, timestamp, signatures, body.ToArray())
            ? AnswerOnce(id, body.ToArray())
            : Error(401, "bad_signature", "The signature is not valid.");
    }

    static async Task Respond(HttpListenerContext context)
    {
        try
        {
            Answer answer = await Receive(context.Request);
            context.Response.StatusCode = answer.Status;
            byte[] content = Encoding.UTF8.GetBytes(answer.Body ?? "");
            if (answer.Body != null)
                context.Response.ContentType = "application/json";
            context.Response.Close(content, false);
        }
        catch (Exception e) when (e is IOException || e is HttpListenerException || e is ObjectDisposedException)
        {
            context.Response.Abort(); // the request broke off
        }
    }

    static Answer Error(int status, string code, string message) => new Answer
    {
        Status = status, Body = "{\"code\":" + JsonString(code) + ",\"message\":" + JsonString(message) + "}",
    };

    static string Setting(string name, string otherwise) =>
        Environment.GetEnvironmentVariable(name) is string value && value != "" ? value : otherwise;

    static string JsonString(string text)
    {
        var json = new StringBuilder("\"");
        foreach (char c in text)
        {
            if (c == '"' || c == '\\')
                json.Append('\\').Append(c);
            else if (c < ' ' || char.IsSurrogate(c))
                json.Append("\\u").Append(((int)c).ToString("x4"));
            else
                json.Append(c);
        }
        return json.Append('"').ToString();
    }

    static int Main()
    {
        if (Key.Length == 0)
        {
            Console.Error.WriteLine("environment: WEBHOOK_SECRET (whsec_…); optional PORT");
            return 2;
        }
        var listener = new HttpListener();
        listener.Prefixes.Add("http://127.0.0.1:" + Setting("PORT", "3000") + "/");
        listener.Start();
        while (true)
        {
            HttpListenerContext context = listener.GetContext();
            Task.Run(() => Respond(context));
        }
    }
}
