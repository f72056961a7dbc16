#![allow(clippy::disallowed_methods)] // any moment will do

use super::*;
use crate::bridge::store::items::{Items, ServiceId};
use crate::bridge::subscriber::response::ResponseBody;
use crate::model::name::{DeviceInstance, ServiceName};
use crate::model::request::ResponseAddress;
use crate::schema::Row;

fn who(topic: &str) -> Requester {
    Requester::Topic(topic.into())
}

/// What is sent for requests of one requester.
fn everything(who: &Requester, echoes: &[Option<&str>]) -> Answer {
    let one = |echo: Option<&str>| (who.clone(), echo.map(Into::into));
    Answer::Everything(echoes.iter().copied().map(one).collect())
}

fn item() -> ItemRef {
    let mut items = Items::new(0);
    let name = ServiceName::new("com.victronenergy.some.a").unwrap();
    let device = items
        .bind(ServiceId(0), &name, &DeviceInstance::absent())
        .unwrap();
    let (slot, _) = items.add(device, "/One/Path", Row::UNKNOWN);
    items.item_ref(slot).unwrap()
}

fn response(topic: &str) -> Response {
    Response {
        to: ResponseAddress {
            topic: topic.into(),
            correlation: [].into(),
            client: None,
        },
        body: ResponseBody::Nothing,
    }
}

/// Nothing waits, and nothing is counted.
fn assert_empty(answers: &Answers) {
    for shares in [&answers.waiting, &answers.echoes] {
        assert_eq!(
            (shares.nobodys, shares.others, shares.each.len()),
            (0, 0, 0)
        );
    }
    assert!(answers.lines.is_empty() && answers.due.is_empty());
}

#[test]
fn s5_5_answers_come_in_the_order_of_the_requests() {
    let now = Instant::now();
    for who in [Requester::Anybody, who("answers")] {
        let mut answers = Answers::default();
        let first = answers.ask_read(&who).unwrap();
        let second = answers.ask_read(&who).unwrap();
        assert!(answers.ask_republish(&who, Some("1".into())));
        assert!(answers.ask_serial(&who) && answers.ask_serial(&who));
        assert_eq!(answers.next(now, true), None);
        answers.answer(second, vec![item()]);
        assert_eq!(answers.next(now, true), None);
        answers.answer(first, vec![]);
        assert_eq!(answers.next(now, true), Some(Answer::Items(vec![])));
        assert_eq!(answers.next(now, true), Some(Answer::Items(vec![item()])));
        assert_eq!(answers.next(now, true), Some(Answer::Serial));
        let everything = everything(&who, &[Some("1")]);
        assert_eq!(answers.next(now, true), Some(everything));
        assert_eq!(answers.next(now, true), None);
        assert_empty(&answers);
    }
}

#[test]
fn s5_5_a_read_that_hangs_holds_up_no_other_client() {
    let now = Instant::now();
    let mut answers = Answers::default();
    let hangs = answers.ask_read(&who("a")).unwrap();
    assert!(answers.ask_republish(&who("a"), Some("a".into())));
    assert!(answers.ask_republish(&who("b"), Some("b".into())));
    assert_eq!(
        answers.next(now, true),
        Some(everything(&who("b"), &[Some("b")]))
    );
    // Of one that gives no topic nobody knows whether the read is its own.
    assert!(answers.ask_republish(&Requester::Anybody, None));
    assert!(answers.ask_respond(response("b")));
    assert!(matches!(answers.next(now, true), Some(Answer::Respond(_))));
    assert_eq!(answers.next(now, true), None);
    answers.respond_after(hangs, response("a"));
    answers.answer(hangs, vec![]);
    assert_eq!(answers.next(now, true), Some(Answer::Items(vec![])));
    assert!(matches!(answers.next(now, true), Some(Answer::Respond(_))));
    let both = vec![(who("a"), Some("a".into())), (Requester::Anybody, None)];
    assert_eq!(answers.next(now, true), Some(Answer::Everything(both)));
    assert_empty(&answers);
}

#[test]
fn s5_3_three_republishes_a_second_and_every_echo_comes_back() {
    let start = Instant::now();
    let mut answers = Answers::default();
    for _ in 0..3 {
        assert!(answers.ask_republish(&Requester::Anybody, None));
        let everything = everything(&Requester::Anybody, &[None]);
        assert_eq!(answers.next(start, true), Some(everything));
    }
    for echo in ["1", "2", "2"] {
        assert!(answers.ask_republish(&Requester::Anybody, Some(echo.into())));
        assert_eq!(answers.next(start, true), None);
    }
    assert!(answers.republish_waits());
    let later = start + Duration::from_secs(1);
    assert_eq!(answers.deadline(), Some(later));
    // Not before the one before it is done.
    assert_eq!(answers.next(later, false), None);
    let both = everything(&Requester::Anybody, &[Some("1"), Some("2")]);
    assert_eq!(answers.next(later, true), Some(both));
    assert_empty(&answers);
}

#[test]
fn s5_3_nobodys_echoes_keep_out_anothers() {
    let start = Instant::now();
    let mut answers = Answers::default();
    let greedy = [Requester::Anybody, who("greedy")];
    // Ten seconds without a republish, say, and two clients that want all there is.
    for number in 0..100_000 {
        for who in &greedy {
            answers.ask_republish(who, Some(number.to_string().into()));
        }
    }
    let full = Some("one more".into());
    assert!(greedy.iter().all(|who| !answers.may_republish(who, &full)));
    for client in 0..100 {
        let client = format!("client {client}");
        assert!(answers.ask_republish(&who(&client), Some(client.clone().into())));
    }
    let Some(Answer::Everything(echoes)) = answers.next(start, true) else {
        panic!()
    };
    // All that was not refused.
    assert_eq!(echoes.len(), ECHO_PIECES_MAX + 100);
    assert_empty(&answers);
    // Long ones need more.
    let long: Echo = Some("x".repeat(64 * 1024).into());
    let mut taken = 0;
    while answers.ask_republish(
        &Requester::Anybody,
        long.clone().map(|echo| format!("{taken}{echo}").into()),
    ) {
        taken += 1;
    }
    assert!((10..20).contains(&taken), "{taken}");
}

#[test]
fn s5_5_what_waits_is_bounded() {
    let mut answers = Answers::default();
    let reads = |answers: &mut Answers, who: &Requester| {
        let asked = (0..10_000).map_while(|_| answers.ask_read(who));
        asked.count()
    };
    assert_eq!(reads(&mut answers, &Requester::Anybody), WAITING_MAX);
    // Half of what is free for the first, half of the rest for the next.
    assert_eq!(reads(&mut answers, &who("a")), WAITING_MAX / 2);
    assert_eq!(reads(&mut answers, &who("b")), WAITING_MAX / 4);
    assert!(!answers.ask_serial(&Requester::Anybody) && answers.ask_serial(&who("c")));
    answers.clear();
    assert_empty(&answers);
}

#[test]
fn s9_9_each_client_of_a_listener_has_a_republish_of_its_own() {
    let now = Instant::now();
    let mut answers = Answers::default();
    for client in [1, 2, 1] {
        assert!(answers.ask_republish(&Requester::Client(client), None));
    }
    let both = vec![(Requester::Client(1), None), (Requester::Client(2), None)];
    assert_eq!(answers.next(now, true), Some(Answer::Everything(both)));
    assert_empty(&answers);
}
