//! Commands from the order to the last line, against a CA that says what it is told to say.

use std::future::pending;
use std::os::unix::fs::PermissionsExt;
use std::pin::pin;
use std::time::Duration;

use tonic::Status;

use crate::authority;
use crate::authority::EmbeddedStore;
use crate::authority::Record;
use crate::authority::Store;
use crate::cli::console::Answers;
use crate::cli::ending::Ending;
use crate::cli::root::copy;
use crate::cli::root::copy::Target;
use crate::cli::root::orders;
use crate::cli::root::orders::Gated;
use crate::cli::root::orders::Past;
use crate::cli::root::orders::Rotate;
use crate::cli::test_support::FalseCa;
use crate::cli::test_support::NEW;
use crate::cli::test_support::OLD;
use crate::cli::test_support::Page;
use crate::cli::test_support::console;
use crate::cli::test_support::report_after;
use crate::cli::test_support::report_at_rest;
use crate::cli::test_support::report_in;
use crate::clock::Clock;
use crate::config::HumanDuration;
use crate::config::Output;
use crate::proto::admin::step::What;
use crate::rotation::report::Report;

const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `page` has `text`.
async fn until_said(page: &Page, text: &str) {
    let look = async {
        while !page.text().contains(text) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let seen = tokio::time::timeout(PATIENCE, look).await;
    seen.unwrap_or_else(|_| panic!("`{text}` was not said, but:\n{}", page.text()));
}

fn refused() -> Status {
    Status::failed_precondition("authority `fedcba9876543210` cannot be activated: 2 of 41 are waited for")
}

#[tokio::test]
async fn a_rotation_is_ordered_and_watched_to_its_end() {
    let ca = FalseCa::start("rotate", report_at_rest()).await;
    ca.will_answer([Ok(report_in("distribute", 37, 41))]);
    let (mut console, results, remarks) = console(Output::Text);
    let mut reach = ca.reach().await;
    let how = Rotate { window: Some(Duration::from_secs(60)), ..Rotate::default() };
    let watched = async {
        let mut interrupt = pin!(pending());
        orders::rotate(&mut reach, &mut console, how, interrupt.as_mut()).await
    };
    let goes_on = async {
        until_said(&results, "distribute  37 of 41").await;
        ca.inside.stands.send_replace(report_in("reissue", 40, 41));
        until_said(&results, "reissue     40 of 41").await;
        ca.inside.stands.send_replace(report_after("done"));
    };
    let (ending, ()) = tokio::join!(watched, goes_on);
    assert_eq!(ending.unwrap(), Ending::Done);
    let text = results.text();
    let last = format!(
        "done        in 2 min 30 s (distribute 1.2 s, reissue 1 min, withdraw 0.5 s): `{NEW}` signs, and `{OLD}` is gone, key and all\n"
    );
    assert!(text.ends_with(&last), "{text}");
    assert_eq!(remarks.text(), "");
    let orders = ca.orders();
    let [step] = orders.as_slice() else { panic!("one order, and not {}", orders.len()) };
    assert_eq!((step.by.as_str(), step.force), ("alice", false));
    let Some(What::Rotate(new)) = &step.what else { panic!("another order") };
    assert_eq!((new.window_ms, new.cross_sign, new.files.len()), (60_000, false, 0));
}

#[tokio::test]
async fn a_connection_that_is_lost_is_told_once_and_the_end_that_came_meanwhile_is_known() {
    let ca = FalseCa::start("lost", report_in("distribute", 37, 41)).await;
    let (mut console, results, remarks) = console(Output::Text);
    let mut reach = ca.reach().await;
    let watched = async {
        let mut interrupt = pin!(pending());
        orders::watch(&mut reach, &mut console, None, interrupt.as_mut()).await
    };
    let breaks = async {
        until_said(&results, "distribute  37 of 41").await;
        ca.go_down();
        until_said(&remarks, "the CA is out of sight").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        ca.inside.stands.send_replace(report_after("done"));
        ca.go_up();
    };
    let (ending, ()) = tokio::join!(watched, breaks);
    assert_eq!(ending.unwrap(), Ending::Done);
    let said = remarks.text();
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.ends_with("the CA answers again\n"), "{said}");
    assert!(
        results.text().contains("withdraw    done in 0.5 s\ndone        in 2 min 30 s"),
        "{}",
        results.text()
    );
}

#[tokio::test]
async fn whoever_interrupts_is_told_how_to_pick_it_up_again() {
    let ca = FalseCa::start("interrupt", report_in("reissue", 37, 41)).await;
    let (mut console, results, remarks) = console(Output::Text);
    let mut reach = ca.reach().await;
    let mut interrupt = pin!(until_said(&results, "reissue     37 of 41"));
    let ending = orders::watch(&mut reach, &mut console, None, interrupt.as_mut()).await;
    assert_eq!(ending.unwrap(), Ending::Interrupted);
    assert_eq!(
        remarks.text(),
        "\nyou do not watch any longer; what is under way goes on in the CA; `burgrave root rotate --watch` picks it up again\n"
    );
    assert!(ca.orders().is_empty());
}

#[tokio::test]
async fn a_timeout_names_everybody_who_is_waited_for() {
    let ca = FalseCa::start("timeout", report_in("distribute", 39, 41)).await;
    let (mut console, _, remarks) = console(Output::Text);
    let mut interrupt = pin!(pending());
    let timeout = Some(HumanDuration::seconds(0));
    let ending = orders::watch(&mut ca.reach().await, &mut console, timeout, interrupt.as_mut()).await;
    assert_eq!(ending.unwrap(), Ending::NotDone);
    assert_eq!(
        remarks.text(),
        "\
burgrave: not over after 0s: `distribute` waits for 2:
  spiffe://cluster.local/ns/shop/sa/web (pod shop/web-1 on node n1)
    was sent the roots and has not acknowledged them
  spiffe://cluster.local/ns/shop/sa/old
    is disconnected; until 2026-10-01T13:00:00Z (in 1 h)
what is under way goes on in the CA; `burgrave root rotate --watch` picks it up again; --force goes on without those it waits for
"
    );
}

#[tokio::test]
async fn machines_get_one_report_a_line_and_none_twice() {
    let ca = FalseCa::start("json", report_in("distribute", 37, 41)).await;
    let (mut console, results, remarks) = console(Output::Json);
    let mut reach = ca.reach().await;
    let watched = async {
        let mut interrupt = pin!(pending());
        orders::watch(&mut reach, &mut console, None, interrupt.as_mut()).await
    };
    let goes_on = async {
        until_said(&results, "\"done\":37").await;
        // Only time has passed.
        let mut later = report_in("distribute", 37, 41);
        later.at = "2026-10-01T12:00:09Z".to_owned();
        later.rotation.as_mut().unwrap().phases[0].took_s = Some(9.0);
        ca.inside.stands.send_replace(later);
        tokio::time::sleep(Duration::from_millis(100)).await;
        ca.inside.stands.send_replace(report_in("reissue", 41, 41));
        until_said(&results, "\"phase\":\"reissue\"").await;
        ca.inside.stands.send_replace(report_after("done"));
    };
    let (ending, ()) = tokio::join!(watched, goes_on);
    assert_eq!(ending.unwrap(), Ending::Done);
    let text = results.text();
    let reports: Vec<Report> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(reports.len(), 3, "{text}");
    let last = reports.last().unwrap();
    assert_eq!((&last.rotation, last.last.as_ref().unwrap().outcome.as_str()), (&None, "done"));
    assert_eq!(remarks.text(), "");
}

#[tokio::test]
async fn a_step_without_evidence_is_refused_with_the_list_of_those_it_waits_for() {
    let ca = FalseCa::start("refused", report_in("distribute", 39, 41)).await;
    ca.will_answer([Err(refused())]);
    let (mut console, results, remarks) = console(Output::Text);
    let mut interrupt = pin!(pending());
    let past = Past::default();
    let mut reach = ca.reach().await;
    let ending = orders::gated(&mut reach, &mut console, Gated::Activate, past, interrupt.as_mut()).await;
    assert_eq!(ending.unwrap(), Ending::NotDone);
    assert_eq!(results.text(), "");
    let said = remarks.text();
    assert!(said.starts_with("burgrave: authority `fedcba9876543210` cannot be activated: "), "{said}");
    assert!(
        said.contains(
            "it waits for 2:\n  spiffe://cluster.local/ns/shop/sa/web (pod shop/web-1 on node n1)\n"
        ),
        "{said}"
    );
    assert!(
        said.ends_with(
            "--wait waits for them; --force goes on without them, and says first what that breaks\n"
        ),
        "{said}"
    );
}

#[tokio::test]
async fn a_step_that_waits_is_taken_as_soon_as_there_is_evidence() {
    let ca = FalseCa::start("wait", report_in("distribute", 39, 41)).await;
    // The CA sees the evidence a moment later than it tells it.
    ca.will_answer([Err(refused()), Err(refused()), Ok(report_in("reissue", 0, 41))]);
    let (mut console, results, remarks) = console(Output::Text);
    let mut reach = ca.reach().await;
    let taken = async {
        let mut interrupt = pin!(pending());
        let past = Past { wait: true, ..Past::default() };
        orders::gated(&mut reach, &mut console, Gated::Activate, past, interrupt.as_mut()).await
    };
    let answers = async {
        until_said(&results, "distribute  39 of 41").await;
        ca.inside.stands.send_replace(report_in("distribute", 41, 41));
    };
    let (ending, ()) = tokio::join!(taken, answers);
    assert_eq!(ending.unwrap(), Ending::Done);
    assert_eq!(ca.orders().len(), 3);
    assert!(
        results.text().contains(&format!("authority `{NEW}` signs; workloads move to it")),
        "{}",
        results.text()
    );
    assert_eq!(remarks.text(), "");
}

#[tokio::test]
async fn what_is_not_a_matter_of_time_is_not_waited_for() {
    let ca = FalseCa::start("no-matter", report_at_rest()).await;
    let no = Status::failed_precondition("no rotation is under way; begin one by `burgrave root rotate`");
    ca.will_answer([Err(no)]);
    let (mut console, _, remarks) = console(Output::Text);
    let mut interrupt = pin!(pending());
    let past = Past { wait: true, ..Past::default() };
    let mut reach = ca.reach().await;
    let ending = orders::gated(&mut reach, &mut console, Gated::Retire, past, interrupt.as_mut()).await;
    assert_eq!(ending.unwrap(), Ending::NotDone);
    assert_eq!(remarks.text(), "burgrave: no rotation is under way; begin one by `burgrave root rotate`\n");
}

#[tokio::test]
async fn force_says_first_who_breaks_and_does_nothing_if_the_operator_would_rather_not() {
    for (agrees, ending, orders) in [(false, Ending::NotDone, 0), (true, Ending::Done, 1)] {
        let ca = FalseCa::start(&format!("force-{agrees}"), report_in("reissue", 39, 41)).await;
        let (mut console, results, _) = console(Output::Text);
        console.answers = Answers::Always(agrees);
        let mut interrupt = pin!(pending());
        let past = Past { force: true, ..Past::default() };
        let mut reach = ca.reach().await;
        let ended = orders::gated(&mut reach, &mut console, Gated::Retire, past, interrupt.as_mut()).await;
        assert_eq!(ended.unwrap(), ending);
        let text = results.text();
        assert!(text.starts_with("if `reissue` is ended now, 2 break: their certificates lead to a root that is trusted no more"), "{text}");
        assert!(
            text.contains("  spiffe://cluster.local/ns/shop/sa/old\n    is disconnected; until "),
            "{text}"
        );
        assert_eq!(ca.orders().len(), orders);
        assert!(ca.orders().iter().all(|step| step.force && matches!(step.what, Some(What::Retire(_)))));
    }
}

#[tokio::test]
async fn a_rotation_that_stands_is_forced_at_its_phase_and_watched_on() {
    let ca = FalseCa::start("force-on", report_in("distribute", 39, 41)).await;
    // The order to go on by itself, and the forced step.
    ca.will_answer([Ok(report_in("distribute", 39, 41)), Ok(report_in("reissue", 41, 41))]);
    let (mut console, results, _) = console(Output::Text);
    let mut reach = ca.reach().await;
    let rotated = async {
        let mut interrupt = pin!(pending());
        let how = Rotate { force: true, yes: true, ..Rotate::default() };
        orders::rotate(&mut reach, &mut console, how, interrupt.as_mut()).await
    };
    let goes_on = async {
        until_said(&results, "reissue     41 of 41").await;
        ca.inside.stands.send_replace(report_after("done"));
    };
    let (ending, ()) = tokio::join!(rotated, goes_on);
    assert_eq!(ending.unwrap(), Ending::Done);
    let text = results.text();
    assert!(text.starts_with("a rotation is under way already: "), "{text}");
    assert!(text.contains("\nif `distribute` is ended now, 2 break: "), "{text}");
    let orders = ca.orders();
    assert!(matches!(orders[0].what, Some(What::Rotate(_))) && !orders[0].force);
    assert!(matches!(orders[1].what, Some(What::Activate(_))) && orders[1].force);
    assert_eq!(orders.len(), 2);
}

#[tokio::test]
async fn what_is_meant_for_a_new_rotation_is_not_passed_over_while_another_is_under_way() {
    let ca = FalseCa::start("another", report_in("distribute", 39, 41)).await;
    let (mut console, _, remarks) = console(Output::Text);
    let mut interrupt = pin!(pending());
    let how = Rotate { cross_sign: true, ..Rotate::default() };
    let ending = orders::rotate(&mut ca.reach().await, &mut console, how, interrupt.as_mut()).await;
    assert_eq!(ending.unwrap(), Ending::NotDone);
    let said = "burgrave: a rotation is under way: ordered by alice, and in phase `distribute`; --from, ";
    assert!(remarks.text().starts_with(said), "{}", remarks.text());
    assert!(ca.orders().is_empty());
}

#[tokio::test]
async fn a_ca_that_goes_away_in_the_middle_of_an_order_is_looked_at_before_it_is_ordered_again() {
    let ca = FalseCa::start("surely", report_at_rest()).await;
    ca.will_answer([
        Err(Status::unavailable("the store does not answer")),
        Ok(report_in("distribute", 1, 41)),
    ]);
    let (mut console, results, _) = console(Output::Text);
    let mut interrupt = pin!(pending());
    let how = || Rotate { detach: true, ..Rotate::default() };
    let mut reach = ca.reach().await;
    let ending = orders::rotate(&mut reach, &mut console, how(), interrupt.as_mut()).await;
    assert_eq!(ending.unwrap(), Ending::Done);
    assert_eq!(ca.orders().len(), 2, "it had not been taken");
    assert!(results.text().starts_with("it is ordered, and goes on in the CA; "), "{}", results.text());

    let ca = FalseCa::start("surely-taken", report_at_rest()).await;
    ca.will_answer([Err(Status::unavailable("the store does not answer"))]);
    let mut reach = ca.reach().await;
    let ordered = orders::rotate(&mut reach, &mut console, how(), interrupt.as_mut());
    let taken = async {
        while ca.orders().is_empty() {
            tokio::task::yield_now().await;
        }
        ca.inside.stands.send_replace(report_in("distribute", 1, 41));
    };
    let (ending, ()) = tokio::join!(ordered, taken);
    assert_eq!(ending.unwrap(), Ending::Done);
    assert_eq!(ca.orders().len(), 1, "it had been taken");
}

#[tokio::test]
async fn a_rotation_that_somebody_else_gives_up_is_not_done() {
    let ca = FalseCa::start("given-up", report_in("distribute", 1, 41)).await;
    let (mut console, results, remarks) = console(Output::Text);
    let mut reach = ca.reach().await;
    let watched = async {
        let mut interrupt = pin!(pending());
        orders::watch(&mut reach, &mut console, None, interrupt.as_mut()).await
    };
    let gives_up = async {
        until_said(&results, "distribute  1 of 41").await;
        ca.inside.stands.send_replace(report_after("aborted"));
    };
    let (ending, ()) = tokio::join!(watched, gives_up);
    assert_eq!(ending.unwrap(), Ending::NotDone);
    assert_eq!(
        remarks.text(),
        format!(
            "burgrave: the rotation was not carried out: it ended as `aborted`, by alice, at 2026-10-01T12:00:30Z; `{NEW}` signs\n"
        )
    );
}

#[tokio::test]
async fn whoever_watches_when_nothing_is_under_way_hears_how_the_last_one_ended() {
    for (outcome, ending) in [("done", Ending::Done), ("aborted", Ending::NotDone)] {
        let ca = FalseCa::start(&format!("last-{outcome}"), report_after(outcome)).await;
        let (mut console, results, _) = console(Output::Text);
        let mut interrupt = pin!(pending());
        let ended = orders::watch(&mut ca.reach().await, &mut console, None, interrupt.as_mut()).await;
        assert_eq!(ended.unwrap(), ending);
        let said =
            format!("no rotation is under way; the last one: {outcome}, ordered by alice, ended 1 s ago, ");
        assert!(results.text().starts_with(&said), "{}", results.text());
    }
}

#[tokio::test]
async fn a_taint_names_those_it_cuts_off_and_asks_before_it_is_ordered() {
    let ca = FalseCa::start("taint", report_at_rest()).await;
    let (mut console, results, remarks) = console(Output::Text);
    console.answers = Answers::Always(false);
    let mut interrupt = pin!(pending());
    let mut reach = ca.reach().await;
    let how = Rotate::default();
    let ending = orders::taint(&mut reach, &mut console, Some("0123"), how, interrupt.as_mut()).await;
    assert_eq!(ending.unwrap(), Ending::NotDone);
    assert!(
        results.text().starts_with("tainting `0123456789abcdef` cuts off 2 readers: "),
        "{}",
        results.text()
    );
    assert_eq!(remarks.text(), "nothing was done\n");
    assert!(ca.orders().is_empty());

    let how = Rotate { yes: true, detach: true, ..Rotate::default() };
    ca.will_answer([Ok(report_in("distribute", 1, 41))]);
    let ending = orders::taint(&mut reach, &mut console, None, how, interrupt.as_mut()).await;
    assert_eq!(ending.unwrap(), Ending::Done);
    let orders = ca.orders();
    assert!(matches!(&orders[0].what, Some(What::Taint(taint)) if taint.authority == OLD));

    let how = Rotate::default();
    let unknown = orders::taint(&mut reach, &mut console, Some("77"), how, interrupt.as_mut()).await;
    assert_eq!(
        unknown.unwrap_err().to_string(),
        "there is no authority `77`; there are `0123456789abcdef`, `fedcba9876543210`"
    );
}

#[tokio::test]
async fn an_export_is_a_new_file_of_its_owner_alone() {
    let ca = FalseCa::start("export", report_at_rest()).await;
    let (file, passphrase) = (ca.directory.join("ca.age"), ca.directory.join("passphrase"));
    std::fs::write(&passphrase, "six words of some length\n").unwrap();
    let (mut console, results, _) = console(Output::Text);
    let mut reach = ca.reach().await;
    let ending = copy::export(&mut reach, &mut console, &file, &passphrase).await;
    assert_eq!(ending.unwrap(), Ending::Done);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(ca.passphrases(), ["six words of some length"]);
    assert!(!results.text().contains("six words"), "{}", results.text());
    let again = copy::export(&mut reach, &mut console, &file, &passphrase).await;
    let said =
        format!("`{}` is there already, and is not overwritten; choose another --file", file.display());
    assert_eq!(again.unwrap_err().to_string(), said);
    std::fs::write(&passphrase, "two\nlines\n").unwrap();
    let file = ca.directory.join("other.age");
    let lines = copy::export(&mut reach, &mut console, &file, &passphrase).await.unwrap_err().to_string();
    assert!(lines.ends_with("must hold one line, the passphrase"), "{lines}");
}

#[tokio::test]
async fn an_import_restores_where_nothing_is_kept_and_refuses_where_something_is() {
    let ca = FalseCa::start("import", report_at_rest()).await;
    let now = Clock::system().now();
    let record = Record::new_root(&"td".parse().unwrap(), Duration::from_secs(3600), now).unwrap();
    let id = record.state.active().id.to_string();
    let (file, passphrase) = (ca.directory.join("ca.age"), ca.directory.join("passphrase"));
    std::fs::write(&passphrase, "six words of some length\n").unwrap();
    std::fs::write(&file, authority::seal(&record.to_parts(), "six words of some length").unwrap()).unwrap();
    let directory = ca.directory.join("state");
    let to = || Target::Directory(directory.clone());

    let (mut console, results, remarks) = console(Output::Text);
    let ending = copy::import(&mut console, &file, &passphrase, to()).await;
    assert_eq!(ending.unwrap(), Ending::Done);
    assert!(results.text().contains(&format!("  {id}  active")), "{}", results.text());
    let kept = EmbeddedStore::new(&directory).load().await.unwrap().unwrap();
    assert_eq!(kept.record.state, record.state);

    let ending = copy::import(&mut console, &file, &passphrase, to()).await;
    assert_eq!(ending.unwrap(), Ending::NotDone);
    assert!(remarks.text().contains(&format!("keeps authority `{id}` (")), "{}", remarks.text());

    // A CA that runs holds its directory.
    let running = EmbeddedStore::new(&directory);
    running.load().await.unwrap();
    let held = copy::import(&mut console, &file, &passphrase, to()).await.unwrap_err().to_string();
    assert!(held.contains("is in use by another process"), "{held}");

    std::fs::write(&passphrase, "six words of other length\n").unwrap();
    let wrong = copy::import(&mut console, &file, &passphrase, to()).await.unwrap_err().to_string();
    assert!(wrong.starts_with(&format!("`{}`: ", file.display())), "{wrong}");
    assert!(!wrong.contains("six words"), "{wrong}");
}
