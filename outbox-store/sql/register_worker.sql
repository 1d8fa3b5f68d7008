-- A new worker, alive for $2 seconds. $1 its name for people. Those long dead are forgotten: a
-- row that one of them still holds is free all the same.
WITH forgotten AS (
    DELETE FROM outbox_workers WHERE alive_until < now() - interval '1 day'
)
INSERT INTO outbox_workers (name, alive_until)
VALUES ($1, now() + $2::float8 * interval '1 second')
RETURNING id, now() AS "now!"
