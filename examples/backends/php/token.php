<?php
// Print a token for a user: GATEWAY_JWT_SECRET=… php token.php alice

function base64url(string $data): string
{
    return rtrim(strtr(base64_encode($data), '+/', '-_'), '=');
}

/** Return a token for $sub, which is valid for an hour; claims such as ['orgId' => 7] grant rooms. */
function gateway_token(string $sub, array $claims = []): string
{
    $secret = getenv('GATEWAY_JWT_SECRET') ?: throw new RuntimeException('GATEWAY_JWT_SECRET is not set');
    $payload = ['sub' => $sub, 'iat' => time(), 'exp' => time() + 3600] + $claims;
    $text = base64url('{"alg":"HS256","typ":"JWT"}') . '.' . base64url(json_encode($payload, JSON_THROW_ON_ERROR));
    return $text . '.' . base64url(hash_hmac('sha256', $text, $secret, true));
}

echo gateway_token($argv[1]), "\n";
