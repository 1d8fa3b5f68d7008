SELECT outbox_enqueue_many($1) AS "id!"
