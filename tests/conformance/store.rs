//! The store: generations, preconditions, listing, streaming, and many writers at once.

use std::sync::Arc;

use shared::store::{Directory, Generation, Memory, Precondition, Store, StoreError};

/// What every store does; this one is empty.
pub(crate) async fn conforms(store: Arc<dyn Store>) {
    writes_and_reads_back(&*store).await;
    preconditions_hold_or_conflict(&*store).await;
    an_upload_appears_whole_or_not_at_all(&*store).await;
    lists_by_prefix_in_order(&*store).await;
    ranges_are_exact(&*store).await;
    a_reader_keeps_the_generation_it_opened(&*store).await;
    names_that_leave_the_store_are_refused(&*store).await;
    one_of_many_writers_wins_each_generation(store).await;
}

async fn writes_and_reads_back(store: &dyn Store) {
    assert_eq!(store.get("a/missing").await.unwrap(), None);
    assert_eq!(store.head("a/missing").await.unwrap(), None);
    assert!(matches!(store.read("a/missing", None).await.err(), Some(StoreError::NotFound { .. })));
    let first = store.put("a/b.json", "one".into(), Precondition::None).await.unwrap();
    let second = store.put("a/b.json", "three".into(), Precondition::None).await.unwrap();
    assert!(second > first, "generations grow");
    let object = store.get("a/b.json").await.unwrap().unwrap();
    assert_eq!((&object.bytes[..], object.generation), (&b"three"[..], second));
    let head = store.head("a/b.json").await.unwrap().unwrap();
    assert_eq!((head.size, head.generation), (5, second));
    store.put("a/empty", "".into(), Precondition::None).await.unwrap();
    assert_eq!(store.get("a/empty").await.unwrap().unwrap().bytes.len(), 0);
    store.delete("a/b.json", Precondition::None).await.unwrap();
    assert_eq!(store.get("a/b.json").await.unwrap(), None);
    store.delete("a/b.json", Precondition::None).await.unwrap();
    let third = store.put("a/b.json", "x".into(), Precondition::None).await.unwrap();
    assert!(third > second, "generations grow over a delete");
}

async fn preconditions_hold_or_conflict(store: &dyn Store) {
    let name = "p/object";
    let put = |precondition| store.put(name, "x".into(), precondition);
    let conflict = |result: Result<Generation, StoreError>| matches!(result, Err(StoreError::Conflict { .. }));
    assert!(conflict(put(Precondition::Is(Generation(1))).await), "there is none yet");
    let first = put(Precondition::Absent).await.unwrap();
    assert!(conflict(put(Precondition::Absent).await));
    let second = put(Precondition::Is(first)).await.unwrap();
    assert!(conflict(put(Precondition::Is(first)).await), "somebody wrote meanwhile");
    let stale = store.delete(name, Precondition::Is(first)).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })));
    assert_eq!(store.head(name).await.unwrap().unwrap().generation, second, "a conflict changes nothing");
    store.delete(name, Precondition::Is(second)).await.unwrap();
}

async fn an_upload_appears_whole_or_not_at_all(store: &dyn Store) {
    let mut upload = store.upload("u/object", Precondition::Absent).await.unwrap();
    upload.write("half".into()).await.unwrap();
    assert_eq!(store.get("u/object").await.unwrap(), None);
    drop(upload);
    assert_eq!(store.list("u/").await.unwrap(), []);
    let mut upload = store.upload("u/object", Precondition::Absent).await.unwrap();
    store.put("u/object", "first".into(), Precondition::Absent).await.unwrap();
    upload.write("late".into()).await.unwrap();
    assert!(matches!(upload.finish().await, Err(StoreError::Conflict { .. })), "checked when it is finished");
    assert_eq!(&store.get("u/object").await.unwrap().unwrap().bytes[..], b"first");
}

async fn lists_by_prefix_in_order(store: &dyn Store) {
    for name in ["l/b/2", "l/a/1", "l/a/10", "l/ab", "m/a"] {
        store.put(name, "x".into(), Precondition::None).await.unwrap();
    }
    let names = async |prefix: &str| {
        store.list(prefix).await.unwrap().into_iter().map(|object| object.name).collect::<Vec<_>>()
    };
    assert_eq!(names("l/").await, ["l/a/1", "l/a/10", "l/ab", "l/b/2"]);
    assert_eq!(names("l/a").await, ["l/a/1", "l/a/10", "l/ab"], "a prefix is text, not a folder");
    assert_eq!(names("l/a/1").await, ["l/a/1", "l/a/10"]);
    assert_eq!(names("none/").await, [] as [&str; 0]);
}

async fn ranges_are_exact(store: &dyn Store) {
    let bytes: Vec<u8> = (0..=255).cycle().take(700_000).collect();
    store.put("r/object", bytes.clone().into(), Precondition::None).await.unwrap();
    for range in [0..0, 0..1, 262_143..262_145, 699_999..700_000, 0..700_000] {
        let reading = store.read("r/object", Some(range.clone())).await.unwrap();
        let wanted = &bytes[range.start as usize..range.end as usize];
        assert_eq!(&reading.collect().await.unwrap()[..], wanted, "{range:?}");
    }
    let beyond = store.read("r/object", Some(0..700_001)).await;
    assert!(matches!(beyond.err(), Some(StoreError::Permanent { .. })));
}

async fn a_reader_keeps_the_generation_it_opened(store: &dyn Store) {
    let old = vec![b'o'; 600_000];
    store.put("g/object", old.clone().into(), Precondition::None).await.unwrap();
    let reading = store.read("g/object", None).await.unwrap();
    store.put("g/object", "new".into(), Precondition::None).await.unwrap();
    assert_eq!(reading.collect().await.unwrap(), old);
}

async fn names_that_leave_the_store_are_refused(store: &dyn Store) {
    // A store of objects has no folders to leave; a store in a folder must not be led out of it.
    for name in ["../escape", "a/../../escape", "/etc/escape"] {
        if store.put(name, "x".into(), Precondition::None).await.is_ok() {
            assert_eq!(store.list(name).await.unwrap().len(), 1, "{name} is a name like any other here");
        }
    }
}

async fn one_of_many_writers_wins_each_generation(store: Arc<dyn Store>) {
    const WRITERS: usize = 8;
    const ROUNDS: u64 = 20;
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut won = 0;
                while won < ROUNDS {
                    let found = store.get("c/counter").await.unwrap();
                    let count: u64 =
                        found.as_ref().map_or(0, |it| std::str::from_utf8(&it.bytes).unwrap().parse().unwrap());
                    let precondition = Precondition::unchanged(found.map(|it| it.generation));
                    let text = (count + 1).to_string();
                    match store.put("c/counter", text.into(), precondition).await {
                        Ok(_) => won += 1,
                        Err(StoreError::Conflict { .. }) => (),
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let total = (WRITERS as u64 * ROUNDS).to_string();
    assert_eq!(store.get("c/counter").await.unwrap().unwrap().bytes, total, "no increment is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    conforms(Arc::new(Memory::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn directory() {
    let temp = tempfile::tempdir().unwrap();
    conforms(Arc::new(Directory::open(temp.path()).unwrap())).await;
}
