<?php
// Know who is online, and store each notified event once: verify, store, then answer. PHP 8, no extension, no package.
// Run: PHP's own server, `php -S 127.0.0.1:3000 who-is-online.php`, or a web server with PHP-FPM.
declare(strict_types=1);

const TOLERANCE_SECONDS = 300;
const MAX_BODY_BYTES = 1 << 20;
const REMEMBERED = 100; // ids of events, for each user

/** The event has a wrong form. */
class BadEvent extends Exception
{
}

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

/**
 * The folder with a file for each user, and one for the events. A database takes its place in your application: update
 * the row of the user, where the version or sequence is above the stored one, and insert the event, in one transaction.
 */
function folder(): string
{
    $folder = (getenv('DATA') ?: sys_get_temp_dir()) . '/who-is-online-' . getmyuid();
    is_dir($folder) || mkdir($folder, 0700) || is_dir($folder) || throw new RuntimeException("no folder $folder");
    return $folder;
}

function userFile(string $user): string
{
    return folder() . '/user-' . hash('sha256', $user) . '.json';
}

function readUser(string $user): array
{
    $file = userFile($user);
    $new = ['user' => $user, 'online' => false, 'version' => 0, 'sequence' => 0, 'ids' => []];
    return is_file($file) ? json_decode(file_get_contents($file), true, flags: JSON_THROW_ON_ERROR) : $new;
}

/** Replace a file as a whole, so that a crash leaves the old one or the new one. */
function replaceFile(string $file, string $content): void
{
    $handle = fopen("$file.new", 'w');
    if (fwrite($handle, $content) !== strlen($content) || !fsync($handle) || !fclose($handle)) {
        throw new RuntimeException("$file.new was not written");
    }
    rename("$file.new", $file) || throw new RuntimeException("$file was not replaced");
}

/** Store one event, unless it is known or not above the last one of its user; your application begins here. */
function storeOne(array $event): ?string
{
    ['id' => $id, 'type' => $type, 'data' => $data] = $event + ['id' => null, 'type' => null, 'data' => null];
    if ($type === 'user.online' || $type === 'user.offline') {
        ['user' => $user, 'version' => $version] = ($data ?? []) + ['user' => null, 'version' => null];
        is_string($user) && is_int($version) || throw new BadEvent();
        $stored = readUser($user);
        if ($version <= $stored['version']) {
            return null;
        }
        $stored['online'] = $type === 'user.online';
        $stored['version'] = $version;
        replaceFile(userFile($user), json_encode($stored, JSON_THROW_ON_ERROR));
        return "$type $user $version";
    }
    if ($type !== 'client.event') {
        return null; // webhook.test, and types of later releases
    }
    $user = $data['connection']['user'] ?? null;
    $sequence = $data['sequence'] ?? null;
    is_string($id) && is_string($user) && is_int($sequence) || throw new BadEvent();
    $stored = readUser($user);
    if ($sequence <= $stored['sequence'] || in_array($id, $stored['ids'], true)) {
        return null;
    }
    $line = json_encode(['id' => $id, 'user' => $user, 'event' => $data['event'], 'args' => $data['args']]) . "\n";
    if (file_put_contents(folder() . '/events.jsonl', $line, FILE_APPEND) !== strlen($line)) {
        throw new RuntimeException('the event was not written');
    }
    $stored['sequence'] = $sequence;
    $stored['ids'] = array_slice([...$stored['ids'], $id], -REMEMBERED);
    replaceFile(userFile($user), json_encode($stored, JSON_THROW_ON_ERROR));
    return "event $user $sequence $id";
}

/** Store a request, one at a time: processes of PHP share no memory. */
function store(string $id, string $body): void
{
    $message = json_decode($body, true, 128);
    $events = ($message['type'] ?? null) === 'batch' ? $message['data'] : [(array) $message + ['id' => $id]];
    is_array($message) && isset($message['type']) && is_array($events) || throw new BadEvent();
    $lock = fopen(folder() . '/lock', 'c');
    flock($lock, LOCK_EX);
    foreach ($events as $event) {
        $stored = storeOne(is_array($event) ? $event : throw new BadEvent());
        $stored === null || file_put_contents('php://stdout', "$stored\n");
    }
    fclose($lock);
}

/** The users that are online. Keep this route away from the network in your application. */
function online(): array
{
    $users = array_map(fn (string $file) => json_decode(file_get_contents($file), true), glob(folder() . '/user-*.json'));
    $online = array_column(array_filter($users, fn (array $user) => $user['online']), 'user');
    sort($online, SORT_STRING);
    return ['online' => $online];
}

function receive(): array
{
    $key = base64_decode(preg_replace('/^whsec_/', '', getenv('WEBHOOK_SECRET') ?: ''));
    if ($key === '') {
        return [500, ['message' => 'WEBHOOK_SECRET is not set.']]; // an empty key would accept every signature
    }
    if ($_SERVER['REQUEST_METHOD'] === 'GET') {
        return [200, online()];
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
    try {
        store($id, $body);
    } catch (BadEvent) {
        // This event is bad and becomes a dead letter. After a 500 the gateway sends it again.
        return [400, ['code' => 'invalid_payload', 'message' => 'The event has a wrong form.']];
    }
    return [204, null];
}

try {
    [$status, $answer] = receive();
} catch (Throwable $error) {
    error_log($error->getMessage());
    [$status, $answer] = [500, ['message' => 'The event was not stored.']];
}
http_response_code($status);
if ($answer !== null) {
    header('Content-Type: application/json');
    echo json_encode($answer, JSON_THROW_ON_ERROR);
}
