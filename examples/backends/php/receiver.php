<?php
// Receive client events from the gateway: verify each webhook request and answer it. PHP 8, no extension, no package.
// Run: PHP's own server, `php -S 127.0.0.1:3000 receiver.php`, or a web server with PHP-FPM.
declare(strict_types=1);

const TOLERANCE_SECONDS = 300;
const MAX_BODY_BYTES = 1 << 20;

/** Whether one of the signatures fits the raw body, and the time is within the tolerance. */
function isAuthentic(string $key, string $id, string $timestamp, string $signatures, string $body): bool
{
    if (!preg_match('/^\d{1,12}$/D', $timestamp) || abs(time() - (int) $timestamp) > TOLERANCE_SECONDS) {
        return false;
    }
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    $matches = array_map(fn (string $each) => hash_equals($expected, $each), explode(' ', $signatures));
    return in_array(true, $matches, true);
}

/** Status and answer for an event; your application begins here. */
function answerTo(array $event): array
{
    if ($event['type'] !== 'client.event') {
        return [204, null]; // webhook.test, and types of later releases
    }
    if ($event['data']['event'] !== 'notification:mark_read') {
        return [404, ['code' => 'unknown_event', 'message' => 'This backend does not know the event.']];
    }
    $id = $event['data']['args'][0]['notificationId'] ?? null;
    if (!is_string($id)) {
        return [400, ['code' => 'invalid_payload', 'message' => 'The event has a wrong form.']];
    }
    if (str_starts_with($id, 'x')) {
        return [403, ['code' => 'not_yours', 'message' => 'This notification belongs to another user.']];
    }
    file_put_contents('php://stdout', "read $id by {$event['data']['connection']['user']}\n");
    $read = ['event' => 'notification:read', 'data' => ['notificationId' => $id, 'success' => true]];
    return [200, ['emit' => [$read], 'ack' => ['success' => true]]];
}

/**
 * The answer to a verified request; a repeat of an id gets the first answer. Processes of PHP share no memory, so each
 * answer is a file, which is removed when a repeat would fail the test of its time.
 */
function answerOnce(string $id, string $body): array
{
    $folder = sys_get_temp_dir() . '/webhook-answers-' . getmyuid();
    is_dir($folder) || mkdir($folder, 0700);
    foreach (random_int(0, 99) ? [] : glob("$folder/*") as $old) {
        time() - filemtime($old) > 2 * TOLERANCE_SECONDS && unlink($old);
    }
    $file = fopen("$folder/" . hash('sha256', $id), 'c+');
    flock($file, LOCK_EX); // a repeat waits for the first answer
    $answer = json_decode(stream_get_contents($file) ?: 'null', true);
    if ($answer === null) {
        $event = json_decode($body, true);
        $answer = is_array($event) && isset($event['type'], $event['data']) ? answerTo($event)
            : [400, ['code' => 'invalid_payload', 'message' => 'The event has a wrong form.']];
        fwrite($file, json_encode($answer, JSON_THROW_ON_ERROR));
    }
    fclose($file);
    return $answer;
}

function receive(): array
{
    $key = base64_decode(preg_replace('/^whsec_/', '', getenv('WEBHOOK_SECRET') ?: ''));
    if ($key === '') {
        return [500, ['message' => 'WEBHOOK_SECRET is not set.']]; // an empty key would accept every signature
    }
    $body = file_get_contents('php://input', length: MAX_BODY_BYTES + 1);
    if (strlen($body) > MAX_BODY_BYTES) {
        return [413, ['message' => 'The body is too large.']];
    }
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if ($id === '' || !isAuthentic($key, $id, $timestamp, $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '', $body)) {
        return [401, ['code' => 'bad_signature', 'message' => 'The signature is not valid.']];
    }
    return answerOnce($id, $body);
}

[$status, $answer] = receive();
http_response_code($status);
if ($answer !== null) {
    header('Content-Type: application/json');
    echo json_encode($answer, JSON_THROW_ON_ERROR);
}
