SELECT id, name, started_at, asleep, alive_until > now() AS "alive!"
FROM outbox_workers ORDER BY id
