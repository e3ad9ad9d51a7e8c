// A claim and a late 250 at the same moment, interleaved on a real server at the one place where it matters.

import Foundation
import Lab
import Postgres
import Testing

@testable import Ledger

@Suite struct ClaimRaceTests {
    private static let all = ClaimRequest(limit: 100, perLane: 100)

    /// Makes a claim stop after it took its snapshot and a delivery of lane `a.test`, before it locks one of a later lane.
    private static let pause = """
        CREATE FUNCTION public.pause() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$;
        CREATE TRIGGER pause BEFORE UPDATE ON ledger.delivery FOR EACH ROW
            WHEN (NEW.lane = 'a.test' AND NEW.state = 'claimed') EXECUTE FUNCTION public.pause()
        """

    @Test(
        "Law 7: a late 250 that commits between a claim's snapshot and its lock is not sent again",
        arguments: [1, 2])
    func lateWhileClaiming(served: Int32) async throws {
        let shard = try await Shard.make()
        let message = Mail.make(lanes: ["b.test"], recipientsPerLane: 2)
        try await shard.accept([message])
        let first = try await shard.newWorker()
        let lost = try #require(try await shard.work.claim(worker: first, Self.all).first)
        try await shard.work.resign(worker: first)
        #expect(try await shard.work.reclaim(finalDotTimeout: .seconds(600)) == (1, 0))
        try await shard.accept([Mail.make(lanes: ["a.test"])])
        try await shard.execute(Self.pause)

        let heir = try await shard.newWorker()
        let late = Completion(
            reference: lost.reference, deliveriesOfMessage: 1, tenant: "demo",
            ended: (0..<served).map { EndedRecipient(number: $0, state: .delivered) },
            step: .retry(due: Date(), possibleDuplicate: false, delayReported: false),
            events: (0..<served).map { number in
                EventRow(
                    id: Mail.id(), tenant: "demo", message: message.id, recipient: number, kind: .delivered,
                    at: Date())
            }, shreddedEventID: Mail.id())
        let claims = try await shard.owner.withConnection { gate in
            _ = try await gate.perform { try $0.query("SELECT pg_advisory_lock(7)") }
            async let claims = shard.work.claim(worker: heir, Self.all)
            try await eventually("the claim stands at the gate", within: .seconds(30)) {
                try await shard.number(
                    """
                    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    """) == 1
            }
            // It commits while the claim waits, so the claim has not locked this delivery yet.
            #expect(try await shard.work.complete([late]) == [.stale(deliveredRecorded: true)])
            _ = try await gate.perform { try $0.query("SELECT pg_advisory_unlock(7)") }
            return try await claims
        }

        let again = claims.filter { $0.reference.message == message.id }
        #expect(again.flatMap(\.recipients).map(\.number) == (served == 1 ? [1] : []))
        #expect(claims.count == (served == 1 ? 2 : 1))
        let references = Set(again.map(\.reference))
        #expect(
            try await shard.work.registerDots(worker: heir, Array(references), inFlight: []).granted
                == references)
        _ = try await shard.work.complete(again.map { Mail.completion($0) })
        #expect(
            try await shard.number(
                "SELECT count(*) FROM ledger.event WHERE kind = 'duplicate' OR possible_duplicate") == 0)
        #expect(
            try await shard.number("SELECT count(*) FROM ledger.recipient WHERE state = 'delivered'") == 2)
        await shard.close()
    }
}
