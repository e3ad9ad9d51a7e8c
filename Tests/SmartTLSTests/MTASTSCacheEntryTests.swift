// RFC 8461 §3.1, §3.3, §5.1, §10.2: which policy is in force, and when it is fetched anew.

import DNS
import Foundation
import Policy
import Testing

@testable import SmartTLS

@Suite struct MTASTSCacheEntryTests {
    private static let day: TimeInterval = 86_400
    private static let now = Date(timeIntervalSince1970: 1_800_000_000)

    private static func policy(_ mode: String = "enforce", maxAge: Int = 7 * 86_400) throws -> MTASTSPolicy {
        try MTASTSPolicy(body: Array("version: STSv1\nmode: \(mode)\nmx: a.nl\nmax_age: \(maxAge)".utf8))
    }

    struct Row: Sendable, CustomTestStringConvertible {
        let rule: String
        /// `id mode age` of the policy held, the age in days.
        var held: (id: String, mode: String, days: Double)?
        /// `id seconds` of the last failed fetch.
        var failed: (id: String?, seconds: Double)?
        let lookup: MTASTSCacheEntry.Lookup
        let demand: MTASTSCacheEntry.Demand
        /// In force when the fetch is not made, fails, or brings a policy in mode `testing`.
        let ends: (none: String, failed: String, fetched: String)
        var testDescription: String { rule }
    }

    static let rows: [Row] = [
        Row(
            rule: "first seen: fetched before the message goes; §3.3: to be had nowhere is none, reported",
            lookup: .id("1"), demand: .now, ends: ("nothing", "nothing sts-webpki-invalid", "1 testing")),
        Row(
            rule: "no record and nothing held", lookup: .absent, demand: .no,
            ends: ("nothing", "nothing", "nothing")),
        Row(
            rule: "a failed lookup with nothing held: nobody knows", lookup: .failed, demand: .no,
            ends: ("unknown", "unknown", "unknown")),
        Row(
            rule: "§3.1: the id is known", held: ("1", "enforce", 0.1), lookup: .id("1"), demand: .no,
            ends: ("1 enforce", "1 enforce", "1 testing")),
        Row(
            rule: "another id: fetched; a failed fetch keeps the old one", held: ("1", "enforce", 0.1),
            lookup: .id("2"), demand: .now, ends: ("1 enforce", "1 enforce", "2 testing")),
        Row(
            rule: "§10.2: a day old: anew beside the delivery", held: ("1", "enforce", 1), lookup: .id("1"),
            demand: .ahead, ends: ("1 enforce", "1 enforce", "1 testing")),
        Row(
            rule: "§3.3: the record is gone: it stays, and is not fetched", held: ("1", "enforce", 6.9),
            lookup: .absent, demand: .no, ends: ("1 enforce", "1 enforce", "1 testing")),
        Row(
            rule: "the lookup fails: it stays", held: ("1", "enforce", 0.5), lookup: .failed, demand: .no,
            ends: ("1 enforce", "1 enforce", "1 testing")),
        Row(
            rule: "blocking DNS alone does not outlast it", held: ("1", "enforce", 1.5), lookup: .failed,
            demand: .ahead, ends: ("1 enforce", "1 enforce", "1 testing")),
        Row(
            rule: "expired and published: fetched before the message goes", held: ("1", "enforce", 7),
            lookup: .id("1"), demand: .now,
            ends: ("nothing", "nothing sts-webpki-invalid", "1 testing")),
        Row(
            rule: "expired and gone", held: ("1", "enforce", 7), lookup: .absent, demand: .no,
            ends: ("nothing", "nothing", "nothing")),
        Row(
            rule: "expired and the lookup fails: nobody knows", held: ("1", "enforce", 7), lookup: .failed,
            demand: .no, ends: ("unknown", "unknown", "unknown")),
        Row(
            rule: "mode none has ended it; its id needs no fetch", held: ("1", "none", 0.1), lookup: .id("1"),
            demand: .no, ends: ("nothing", "nothing", "1 testing")),
        Row(
            rule: "mode none and the lookup fails", held: ("1", "none", 0.1), lookup: .failed, demand: .no,
            ends: ("nothing", "nothing", "1 testing")),
        Row(
            rule: "a new id after mode none", held: ("1", "none", 0.1), lookup: .id("2"), demand: .now,
            ends: ("nothing", "nothing", "2 testing")),
        Row(
            rule: "§3.3: the same id failed less than five minutes ago", failed: ("1", 299), lookup: .id("1"),
            demand: .no, ends: ("nothing sts-policy-fetch-error", "nothing sts-webpki-invalid", "1 testing")),
        Row(
            rule: "five minutes are over", failed: ("1", 300), lookup: .id("1"), demand: .now,
            ends: ("nothing sts-policy-fetch-error", "nothing sts-webpki-invalid", "1 testing")),
        Row(
            rule: "so does another id: one fetch of a domain in five minutes", failed: ("1", 10),
            lookup: .id("2"), demand: .no,
            ends: ("nothing sts-policy-fetch-error", "nothing sts-webpki-invalid", "2 testing")),
        Row(
            rule: "and another id after a fetch that worked", held: ("1", "enforce", 0.003),
            lookup: .id("2"), demand: .no, ends: ("1 enforce", "1 enforce", "2 testing")),
        Row(
            rule: "a refresh ahead that failed is left alone too", held: ("1", "enforce", 2),
            failed: ("1", 10),
            lookup: .id("1"), demand: .no, ends: ("1 enforce", "1 enforce", "1 testing")),
        Row(
            rule: "so is one without a record", held: ("1", "enforce", 2), failed: (nil, 10), lookup: .failed,
            demand: .no, ends: ("1 enforce", "1 enforce", "1 testing")),
        Row(
            rule: "the clock went back: it has not expired", held: ("1", "enforce", -3), lookup: .id("1"),
            demand: .no, ends: ("1 enforce", "1 enforce", "1 testing")),
    ]

    private static func text(_ inForce: MTASTSCacheEntry.InForce) -> String {
        switch inForce {
        case .policy(let held): "\(held.id) \(held.policy.mode)"
        case .nothing(let reason):
            (["nothing"] + (reason.map { [$0.reason.rawValue] } ?? [])).joined(separator: " ")
        case .unknown: "unknown"
        }
    }

    @Test(arguments: rows) func `what is remembered holds, what failed loosens nothing`(row: Row) throws {
        let domain = try DomainName("example.nl")
        let held = try row.held.map { held in
            MTASTSCacheEntry.Held(
                id: held.id, policy: try Self.policy(held.mode), fetchedAt: Self.now - held.days * Self.day)
        }
        let failure = row.failed.map { MTASTSCacheEntry.Failure(id: $0.id, at: Self.now - $0.seconds) }
        let entry = MTASTSCacheEntry(policyDomain: domain, held: held, failure: failure)
        #expect(entry.demand(for: domain, row.lookup, now: Self.now) == row.demand)
        let fetches: [(MTASTSCacheEntry.Fetch, String)] = [
            (.none, row.ends.none), (.failed(.stsWebPKIInvalid, "x"), row.ends.failed),
            (.policy(try Self.policy("testing")), row.ends.fetched),
        ]
        for (fetch, end) in fetches {
            var after = entry
            let inForce = after.settle(for: domain, row.lookup, fetch, now: Self.now)
            #expect(Self.text(inForce) == end, "\(fetch)")
            // What a failure leaves behind is never less than what was there.
            if case .policy = fetch {} else { #expect(after.held == entry.held) }
        }
    }

    @Test func `a policy is its own domain's: asked for another on the same hosts it holds nothing`() throws {
        let held = MTASTSCacheEntry.Held(id: "1", policy: try Self.policy(), fetchedAt: Self.now)
        var entry = MTASTSCacheEntry(policyDomain: try DomainName("example.nl"), held: held)
        let other = try DomainName("other.nl")
        #expect(entry.demand(for: other, .id("2"), now: Self.now) == .no)
        #expect(entry.settle(for: other, .id("2"), .policy(try Self.policy()), now: Self.now) == .unknown)
        #expect(entry.held == held)
    }

    @Test func `a failure is remembered by id and forgotten by success`() throws {
        let domain = try DomainName("example.nl")
        var entry = MTASTSCacheEntry(policyDomain: domain)
        let failed = MTASTSCacheEntry.Fetch.failed(.stsPolicyFetchError, "")
        _ = entry.settle(for: domain, .id("1"), failed, now: Self.now)
        #expect(entry.failure == .init(id: "1", at: Self.now))
        #expect(entry.demand(for: domain, .id("1"), now: Self.now + 60) == .no)
        #expect(entry.demand(for: domain, .id("1"), now: Self.now + 300) == .now)
        _ = entry.settle(for: domain, .id("1"), .policy(try Self.policy()), now: Self.now + 300)
        #expect(entry.failure == nil)
        #expect(entry.held?.fetchedAt == Self.now + 300)
    }

    @Test func `max_age 0 holds for the message at hand and until it may be fetched again`() throws {
        let domain = try DomainName("example.nl")
        var entry = MTASTSCacheEntry(policyDomain: domain)
        let inForce = entry.settle(for: domain, .id("1"), .policy(try Self.policy(maxAge: 0)), now: Self.now)
        #expect(Self.text(inForce) == "1 enforce")
        #expect(entry.demand(for: domain, .id("1"), now: Self.now + 299) == .no)
        #expect(Self.text(entry.settle(for: domain, .absent, .none, now: Self.now + 299)) == "1 enforce")
        #expect(entry.demand(for: domain, .id("1"), now: Self.now + 300) == .now)
        #expect(Self.text(entry.settle(for: domain, .absent, .none, now: Self.now + 300)) == "nothing")
    }

    @Test func `what was stored is taken up where it was fetched later`() throws {
        let old = MTASTSCacheEntry.Held(id: "1", policy: try Self.policy(), fetchedAt: Self.now)
        let new = MTASTSCacheEntry.Held(id: "2", policy: try Self.policy("none"), fetchedAt: Self.now + 10)
        var entry = MTASTSCacheEntry(policyDomain: try DomainName("example.nl"), held: old)
        entry.take(new)
        #expect(entry.held == new)
        entry.take(old)
        #expect(entry.held == new)
    }

    @Test func `a short policy is fetched anew at half its life`() throws {
        let domain = try DomainName("example.nl")
        let held = MTASTSCacheEntry.Held(id: "1", policy: try Self.policy(maxAge: 3600), fetchedAt: Self.now)
        let entry = MTASTSCacheEntry(policyDomain: domain, held: held)
        #expect(entry.demand(for: domain, .id("1"), now: Self.now + 1799) == .no)
        #expect(entry.demand(for: domain, .id("1"), now: Self.now + 1800) == .ahead)
        #expect(entry.demand(for: domain, .id("1"), now: Self.now + 3600) == .now)
    }
}
