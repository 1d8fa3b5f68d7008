//! An application whose role may INSERT into `outbox_events` and nothing else.

use crate::common::{Fixture, PATIENCE, fixture, one, options, refused, run};
use outbox_sandbox::postgres::TestDatabase;
use outbox_store::Store;
use sqlx::postgres::PgConnection;

struct Producer {
    connection: PgConnection,
    role: String,
}

impl Producer {
    async fn new(f: &Fixture, schema: &str) -> Self {
        let name = f.database.name();
        let role = format!("producer_{}", &name[name.len() - 16..]);
        let mut connection = f.connect().await;
        run(
            &mut connection,
            &format!(
                "CREATE ROLE {role}; GRANT USAGE ON SCHEMA {schema} TO {role}; \
                 GRANT INSERT ON {schema}.outbox_events TO {role}; SET ROLE {role}"
            ),
        )
        .await;
        Self { connection, role }
    }

    /// Roles are the whole server's.
    async fn remove(mut self) {
        let role = &self.role;
        let remove = format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}");
        run(&mut self.connection, &remove).await;
    }
}

const MANY: &str =
    r#"outbox_enqueue_many('[{"event_type": "a", "payload": {}, "dedup_key": "d"}]')"#;

#[tokio::test]
async fn insert_is_enough() {
    let f = fixture().await;
    let mut producer = Producer::new(&f, "public").await;
    let connection = &mut producer.connection;
    let insert = "INSERT INTO outbox_events (event_type, payload, dedup_key) VALUES ('a', '{}', ";
    run(connection, &format!("{insert} NULL), ('a', '{{}}', 'd')")).await;
    run(connection, &format!("{insert} 'd') ON CONFLICT DO NOTHING")).await;
    let once = "SELECT outbox_enqueue('a', '{}', dedup_key => 'd')";
    let first: i64 = one(connection, once).await;
    assert_eq!(
        one::<i64>(connection, &format!("SELECT {MANY}")).await,
        first
    );
    run(connection, "SELECT outbox_enqueue('a', '{}')").await;
    assert_eq!(f.one::<i64>("SELECT count(*) FROM outbox_queue").await, 3);
    producer.remove().await;
}

#[tokio::test]
async fn insert_is_all() {
    let f = fixture().await;
    f.enqueue(1).await;
    let mut producer = Producer::new(&f, "public").await;
    for statement in [
        "SELECT payload FROM outbox_events",
        "INSERT INTO outbox_events (event_type, payload) VALUES ('a', '{}') RETURNING payload",
        "UPDATE outbox_events SET payload = '{}'",
        "DELETE FROM outbox_events",
        "SELECT FROM outbox_queue",
        "INSERT INTO outbox_queue (event_id, due_at) VALUES (1, now())",
        "DELETE FROM outbox_queue",
        "SELECT FROM outbox_workers",
        "SELECT FROM outbox_event_status",
        "SELECT nextval('outbox_events_id_seq')",
    ] {
        let (code, message) = refused(&mut producer.connection, statement).await;
        assert_eq!(code, "42501", "{statement}: {message}");
    }
    producer.remove().await;
}

/// With it one could put any event back to work, or what is no event.
#[tokio::test]
async fn the_trigger_cannot_be_hung_on_another_table() {
    let f = fixture().await;
    f.run("GRANT CREATE ON SCHEMA public TO PUBLIC").await;
    let mut producer = Producer::new(&f, "public").await;
    let connection = &mut producer.connection;
    let table = "(id bigint, deliver_at timestamptz, priority smallint, key text)";
    run(connection, &format!("CREATE TABLE theirs {table}")).await;
    let trigger = "CREATE TRIGGER theirs AFTER INSERT ON theirs \
                   REFERENCING NEW TABLE AS new_events \
                   FOR EACH STATEMENT EXECUTE FUNCTION outbox_queue_new_events()";
    let (code, message) = refused(connection, trigger).await;
    assert_eq!(code, "42501", "{message}");
    producer.remove().await;
}

#[tokio::test]
async fn temporary_tables_do_not_fool_anybody() {
    let f = fixture().await;
    let mut producer = Producer::new(&f, "public").await;
    let connection = &mut producer.connection;
    run(
        connection,
        "CREATE TEMP TABLE outbox_queue
             (event_id bigint, due_at timestamptz, priority smallint, key text);
         CREATE TEMP TABLE new_events
             (id bigint, deliver_at timestamptz, priority smallint, key text);
         INSERT INTO public.outbox_events (event_type, payload) VALUES ('a', '{}');
         CREATE TEMP TABLE outbox_events (LIKE new_events)",
    )
    .await;
    run(connection, "SELECT outbox_enqueue('a', '{}')").await;
    run(connection, &format!("SELECT {MANY}")).await;
    for table in ["outbox_queue", "outbox_events"] {
        let rows = format!("SELECT count(*) FROM pg_temp.{table}");
        assert_eq!(one::<i64>(connection, &rows).await, 0, "{table}");
        let rows = format!("SELECT count(*) FROM public.{table}");
        assert_eq!(f.one::<i64>(&rows).await, 3, "{table}");
    }
    producer.remove().await;
}

/// The trigger runs with the owner's rights, under the producer's path.
#[tokio::test]
async fn functions_and_types_of_the_same_names_do_not_fool_the_trigger() {
    let f = fixture().await;
    f.run("CREATE TABLE fooled (by text); GRANT CREATE ON SCHEMA public TO PUBLIC")
        .await;
    let mut listener = f.store.listen().await.unwrap();
    listener.set_asleep(true).await.unwrap();
    let mut producer = Producer::new(&f, "public").await;
    let connection = &mut producer.connection;
    let fake = |name: &str, of: &str, returns: &str| {
        format!(
            "CREATE FUNCTION public.{name}({of}) RETURNS {returns} LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO public.fooled VALUES ('{name}'); RETURN NULL; END $$;"
        )
    };
    let fakes = [
        fake("pg_try_advisory_lock", "int, int", "boolean"),
        fake("pg_advisory_unlock", "int, int", "boolean"),
        fake("pg_notify", "text, text", "void").replace("RETURN NULL", "RETURN"),
    ];
    run(connection, &fakes.concat()).await;
    run(
        connection,
        "CREATE DOMAIN public.int4 AS text CHECK (value = 'fooled')",
    )
    .await;
    run(connection, "SET search_path = public, pg_catalog").await;
    let insert = "INSERT INTO outbox_events (event_type, payload) VALUES ('a', '{}')";
    run(connection, insert).await;
    assert_eq!(f.one::<i64>("SELECT count(*) FROM fooled").await, 0);
    let heard = tokio::time::timeout(PATIENCE, listener.heard()).await;
    heard.unwrap().unwrap();
    producer.remove().await;
}

#[tokio::test]
async fn the_applications_search_path_does_not_matter() {
    let database = TestDatabase::for_this_test().await.unwrap();
    let store = Store::connect(&options(&database, "mail_room"))
        .await
        .unwrap();
    store.migrate().await.unwrap();
    let f = Fixture { store, database };
    let mut producer = Producer::new(&f, "mail_room").await;
    let connection = &mut producer.connection;
    for search_path in ["public", "pg_catalog", "''"] {
        run(connection, &format!("SET search_path = {search_path}")).await;
        let insert = "INSERT INTO mail_room.outbox_events (event_type, payload) VALUES ('a', '{}')";
        run(connection, insert).await;
        run(connection, "SELECT mail_room.outbox_enqueue('a', '{}')").await;
        run(connection, &format!("SELECT mail_room.{MANY}")).await;
    }
    assert_eq!(f.store.backlog().await.unwrap()[0].due, 7);
    producer.remove().await;
}
