# Print a token for a user: GATEWAY_JWT_SECRET=… ruby token.rb alice
require "json"
require "openssl"

def base64url(data) = [data].pack("m0").tr("+/", "-_").delete("=")

# Return a token for `sub`, which is valid for an hour; claims such as orgId: 7 grant rooms.
def gateway_token(sub, **claims)
  secret = ENV.fetch("GATEWAY_JWT_SECRET", "")
  raise "GATEWAY_JWT_SECRET is not set" if secret.empty?

  now = Time.now.to_i
  payload = { sub: sub, iat: now, exp: now + 3600, **claims }
  text = "#{base64url('{"alg":"HS256","typ":"JWT"}')}.#{base64url(JSON.generate(payload))}"
  "#{text}.#{base64url(OpenSSL::HMAC.digest('SHA256', secret, text))}"
end

puts gateway_token(ARGV.fetch(0))
