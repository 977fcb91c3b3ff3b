#!/usr/bin/env php
<?php
// Push one event through the gateway with a signed HTTP request. PHP 8, no extension, no package.
declare(strict_types=1);

const USAGE = <<<'END'
usage: push.php (user <id> | room <room> | broadcast) <event> <json>
environment: GATEWAY_KEY, GATEWAY_SECRET; optional GATEWAY_URL, IDEMPOTENCY_KEY

END;

/** The headers of one attempt, with a new timestamp and a new nonce. */
function signedHeaders(string $target, string $body, string $idempotencyKey): array
{
    [$key, $timestamp, $nonce] = [getenv('GATEWAY_KEY'), (string) time(), bin2hex(random_bytes(16))];
    $bodySha256 = hash('sha256', $body);
    $text = implode("\n", ['v1', $key, 'POST', $target, $timestamp, $nonce, $idempotencyKey, $bodySha256]);
    return [
        'Content-Type: application/json',
        "Idempotency-Key: $idempotencyKey",
        "X-Gateway-Key: $key",
        "X-Gateway-Timestamp: $timestamp",
        "X-Gateway-Nonce: $nonce",
        'X-Gateway-Signature: v1=' . hash_hmac('sha256', $text, getenv('GATEWAY_SECRET')),
    ];
}

/** Make one attempt. Returns status, Retry-After and body of the response; status 0 means no response. */
function post(string $url, string $target, string $body, string $idempotencyKey): array
{
    $stream = @fopen($url, 'r', false, stream_context_create(['http' => [
        'method' => 'POST', 'header' => signedHeaders($target, $body, $idempotencyKey), 'content' => $body,
        'protocol_version' => 1.1, 'timeout' => 10, 'follow_location' => 0, 'ignore_errors' => true,
    ]]));
    if (!$stream) {
        return [0, '', error_get_last()['message']];
    }
    $headers = implode("\n", stream_get_meta_data($stream)['wrapper_data']);
    preg_match('~^HTTP/\S+ (\d+)~', $headers, $status);
    preg_match('~^Retry-After: *(\d+)$~mi', $headers, $retryAfter);
    return [(int) $status[1], $retryAfter[1] ?? '', stream_get_contents($stream)];
}

function json(string $text): string
{
    return json_encode($text, JSON_THROW_ON_ERROR);
}

$request = match ([$argv[1] ?? '', $argc]) {
    ['user', 5] => ['/emit/user/' . rawurlencode($argv[2]), '"event":' . json($argv[3])],
    ['room', 5] => ['/emit/room', '"room":' . json($argv[2]) . ',"event":' . json($argv[3])],
    ['broadcast', 4] => ['/broadcast', '"event":' . json($argv[2])],
    default => null,
};
if (!$request || !getenv('GATEWAY_KEY') || !getenv('GATEWAY_SECRET')) {
    fwrite(STDERR, USAGE);
    exit(2);
}
$url = rtrim(getenv('GATEWAY_URL') ?: 'http://127.0.0.1:8080', '/') . $request[0];
$target = parse_url($url, PHP_URL_PATH); // what fopen writes into the request line
$body = "{{$request[1]},\"data\":{$argv[$argc - 1]}}"; // the data exactly as written
// One key for all attempts: the event is delivered once, whatever the first attempt did.
$idempotencyKey = getenv('IDEMPOTENCY_KEY') ?: bin2hex(random_bytes(16));
for ($triesLeft = 2; $triesLeft >= 0; $triesLeft--) {
    [$status, $retryAfter, $answer] = post($url, $target, $body, $idempotencyKey);
    if (!in_array($status, [0, 503]) || !$triesLeft) {
        break;
    }
    sleep((int) ($retryAfter ?: 1));
}
if ($status >= 200 && $status < 300) {
    echo $answer, "\n";
    exit(0);
}
fwrite(STDERR, "$status $answer\n");
exit(1);
