-- The last 100 attempts at event $1 that failed, and the notes of replays.
SELECT finished_at, channel, attempt, duration_ms, class, code, message, answer
FROM (SELECT * FROM outbox_attempts WHERE event_id = $1 ORDER BY id DESC LIMIT 100) last
ORDER BY id
