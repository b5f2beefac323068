use proptest::prelude::*;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2030-01-01 0:00 UTC);
const HOUR: Duration = Duration::from_secs(3600);

fn profile(backdate: u64, max: Duration) -> PodProfile {
    let profile = Profile::new(Duration::from_secs(backdate), Duration::from_secs(60), max).unwrap();
    PodProfile::new(profile).unwrap()
}

/// From a day before to that long after.
fn issuer(left: Duration) -> (OffsetDateTime, OffsetDateTime) {
    (NOW - 24 * HOUR, NOW + left)
}

#[test]
fn a_profile_of_less_than_an_hour_is_refused_with_the_setting_to_change() {
    let short = Profile::new(Duration::ZERO, Duration::from_secs(60), HOUR - Duration::from_secs(1)).unwrap();
    let refused = PodProfile::new(short).unwrap_err().to_string();
    assert!(refused.contains("--max-leaf-lifetime to 1h"), "{refused}");
    assert_eq!(profile(3600, HOUR).profile().backdate(), LONGEST_BACKDATE);
    assert_eq!(profile(60, HOUR).profile().backdate(), Duration::from_secs(60));
}

#[test]
fn a_life_is_the_shorter_of_what_is_asked_and_what_is_allowed_and_counts_the_backdate() {
    let seconds = |asked, max: Duration| profile(120, max).life(asked, issuer(10_000 * HOUR), NOW).unwrap();
    assert_eq!(seconds(HOUR, 24 * HOUR), 3600 - 120);
    assert_eq!(seconds(48 * HOUR, 24 * HOUR), 24 * 3600 - 120);
    assert_eq!(seconds(LONGEST_LIFE, LONGEST_LIFE), 7_862_400 - 120);
}

#[test]
fn an_issuer_that_leaves_less_than_an_hour_or_is_not_valid_makes_it_wait() {
    let day = profile(0, 24 * HOUR);
    let reason = |valid, now| day.life(24 * HOUR, valid, now).map_err(|why| why.reason());
    assert_eq!(reason(issuer(HOUR), NOW), Ok(24 * 3600));
    assert_eq!(reason(issuer(HOUR - Duration::from_secs(1)), NOW), Err("issuer_ends"));
    assert_eq!(reason(issuer(Duration::ZERO), NOW), Err("issuer_expired"));
    assert_eq!(reason((NOW + HOUR, NOW + 100 * HOUR), NOW), Err("issuer_not_yet_valid"));
    // The backdate counts: with two minutes of it, 58 minutes to the issuer's end are an hour.
    let left = issuer(HOUR - Duration::from_secs(120));
    assert!(profile(120, HOUR).life(HOUR, left, NOW).is_ok());
}

#[test]
fn a_refresh_begins_at_half_of_the_life_give_or_take_a_tenth() {
    let end = NOW + 10 * HOUR;
    for (draw, after) in [(0.0, 4 * HOUR), (0.5, 5 * HOUR), (1.0, 6 * HOUR)] {
        assert_eq!(refresh_at(NOW, end, draw), NOW + after);
    }
}

proptest! {
    /// The API server's own rules (`ValidatePodCertificateRequestStatusUpdate`), for what preparing makes of the life.
    #[test]
    fn whatever_is_asked_the_times_keep_all_rules_of_the_api_server_or_it_waits(
        asked in 3600_u64..=7_862_400,
        max in 3600_u64..10_000_000,
        backdate in 0_u64..=3600,
        begun in -100_i64..10_000,
        left in -100_i64..10_000_000,
        nanosecond in 0_u32..1_000_000_000,
        draw in 0.0..1.0_f64,
    ) {
        let now = NOW.replace_nanosecond(nanosecond).unwrap();
        let (begin, end) = (NOW - time::Duration::seconds(begun), NOW + time::Duration::seconds(left));
        let profile = profile(backdate, Duration::from_secs(max));
        let asked = Duration::from_secs(asked);
        match profile.life(asked, (begin, end), now) {
            Err(Hindrance::IssuerExpired(_)) => prop_assert!(end <= NOW),
            Err(Hindrance::IssuerNotYetValid(_)) => prop_assert!(NOW < begin),
            Err(Hindrance::IssuerEnds(_)) => prop_assert!(end - NOW < SHORTEST_LIFE),
            Err(other) => prop_assert!(false, "{other}"),
            Ok(seconds) => {
                // As `issuance::prepare` has it, to which these seconds go.
                prop_assert!(seconds > 0 && profile.profile().lifetime(seconds).is_ok());
                let not_before = (NOW - profile.profile().backdate()).max(begin);
                let not_after = (NOW + time::Duration::seconds(seconds)).min(end);
                let life = not_after - not_before;
                prop_assert!(now - not_before < time::Duration::minutes(5) && not_before <= now);
                prop_assert!(life >= SHORTEST_LIFE && life <= asked && not_after <= end);
                let refresh = refresh_at(not_before, not_after, draw);
                prop_assert_eq!(refresh.nanosecond(), 0);
                prop_assert!(refresh >= not_before + time::Duration::minutes(10));
                prop_assert!(refresh <= not_after - time::Duration::minutes(10));
                prop_assert!(refresh > now);
                let share = (refresh - not_before) / life;
                prop_assert!((0.399..=0.601).contains(&share), "{}", share);
            }
        }
    }
}
