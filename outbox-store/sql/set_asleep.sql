-- Whether producers wake worker $1.
UPDATE outbox_workers SET asleep = $2 WHERE id = $1 AND asleep <> $2
