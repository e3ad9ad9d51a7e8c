// The lease ends in the middle of an attempt that needs several transactions: what was delivered before that stays delivered.

import Foundation
import Lab
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(2))) struct LeaseLapseTests {
    @Test(
        "Law 7: the lease is cut between two dots of one attempt: the first 250 is recorded, the second dot is not sent, and nobody gets it twice"
    )
    func betweenDots() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") {
            $0.extensions.append("LIMITS RCPTMAX=1")
            $0.answers[.data] = [.reply("354 go on"), .replyOnResume("354 go on")]
        }
        let message = try await lab.accept(to: ["a@peer.test", "b@peer.test"])
        let worker = try await lab.worker(routes: ["peer.test": host])
        let lease = worker.runner.lease
        let events = try await lab.working([worker]) {
            try await eventually("the second transaction waits for its 354", within: .seconds(40)) {
                host.transcript.waiting == 1
            }
            #expect(host.transcript.dots == 1)
            let before = lease.worker
            try await lab.tamper("UPDATE ledger.worker_heartbeat SET lease_until = '-infinity'")
            try await eventually("the worker knows that its lease is gone") { lease.worker != before }
            host.resume()
            return try await lab.events { $0.filter { $0.kind == "delivered" }.count == 2 }
        }
        func told(_ recipient: Int32) -> [String?] {
            events.filter { $0.message == message && $0.recipient == recipient }.map {
                $0.kind == "deferred" ? "deferred \($0.reason ?? "")" : $0.kind
            }
        }
        #expect(told(0) == ["accepted", "delivered"])
        #expect(told(1) == ["accepted", "deferred connection-lost", "delivered"])
        #expect(!events.contains { $0.possibleDuplicate || $0.kind == "duplicate" })
        let taken = host.transcript.mails.flatMap(\.recipients)
        #expect(taken.count == 2 && Set(taken).count == 2, "\(taken)")
        #expect(host.transcript.dots == 2, "no dot was sent without a lease")
    }

    @Test(
        "A registered final dot that was withheld as its lease ended is in nobody's doubt: the mail goes at once, unmarked"
    )
    func withheldDot() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") {
            $0.answers[.data] = [.replyOnResume("354 go on"), .reply("354 go on")]
        }
        let message = try await lab.accept(to: ["a@peer.test"])
        let worker = try await lab.worker(routes: ["peer.test": host])
        let lease = worker.runner.lease
        let events = try await lab.working([worker]) {
            try await eventually("the transaction waits for its 354", within: .seconds(40)) {
                host.transcript.waiting == 1
            }
            try await eventually("its final dot is registered") {
                try await lab.count("SELECT count(*) FROM ledger.dot_in_flight") == 1
            }
            let before = lease.worker
            try await lab.tamper("UPDATE ledger.worker_heartbeat SET lease_until = '-infinity'")
            try await eventually("the worker knows that its lease is gone") { lease.worker != before }
            host.resume()
            // The final-dot timeout is longer than this test may take.
            return try await lab.events { $0.contains { $0.kind == "delivered" } }
        }
        let told = events.filter { $0.message == message }.map(\.kind)
        #expect(told.filter { $0 == "delivered" }.count == 1 && !told.contains("deferred"), "\(told)")
        #expect(!events.contains { $0.possibleDuplicate })
        #expect(host.transcript.dots == 1)
    }
}
