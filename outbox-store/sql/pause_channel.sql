-- $2 true: nobody claims for channel $1 until it is resumed. Resuming also ends a `down`.
UPDATE outbox_channels
SET paused_at = CASE WHEN $2 THEN coalesce(paused_at, now()) END,
    down_since = CASE WHEN $2 THEN down_since END,
    down_until = CASE WHEN $2 THEN down_until END,
    failures = CASE WHEN $2 THEN failures ELSE 0 END
WHERE name = $1
RETURNING name
