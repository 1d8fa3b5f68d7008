SELECT outbox_enqueue($1, $2, $3, $4, coalesce($5, now()), $6, $7, $8, $9) AS "id!"
