-- Alive for another $2 seconds, and what time it is; no row when the lease of worker $1 has already
-- run out, perhaps while this waited.
UPDATE outbox_workers
SET alive_until = now() + $2::float8 * interval '1 second'
WHERE id = $1 AND alive_until > clock_timestamp()
RETURNING now() AS "now!"
