-- Publish a reply to an entry on the channel of the replica that waits for it. A reply has no position.
-- Arguments: channel, record.
call('PUBLISH', ARGV[2], '0-0\n' .. ARGV[3])
