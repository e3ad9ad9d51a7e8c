// A member that leads does so on a timeline that no other has had: its number, and what PostgreSQL finds in its folder.

import Foundation
import Testing

@testable import Cluster
@testable import Ledger

@Suite("Each that leads has a timeline of its own")
struct TimelineTests {
    @Test(
        "the number is above all that were claimed and all that are known; what is not known is passed over",
        arguments: [
            (nil, [], 2, []),
            (1, [], 2, []),
            // Others claimed 2 and 3, and were lost before anybody followed.
            (3, [], 4, [2, 3]),
            (7, [2, 3, 4, 5, 6, 7], 8, []),
            (7, [2, 3, 4, 5, 6], 8, [7]),
            (9, [2, 3, 4, 5, 6], 10, [7, 8, 9]),
            // A copy of a leader has the history of its timeline alone.
            (6, [6], 7, [2, 3, 4, 5]),
            (8, [6], 9, [2, 3, 4, 5, 7, 8]),
            // PostgreSQL looks from its own timeline on: no gap may be left.
            (8, [2, 3, 4, 5, 6, 8], 9, [7]),
            // A register that was made later than the shard.
            (nil, [2, 3, 4], 5, []),
            (2, [2, 3, 4], 5, []),
        ] as [(UInt32?, Set<UInt32>, UInt32, [UInt32])])
    func number(_ claimed: UInt32?, _ histories: Set<UInt32>, _ number: UInt32, _ skipped: [UInt32]) throws {
        let claim = try TimelineClaim(claimed: claimed, histories: histories)
        #expect(claim.number == number)
        #expect(claim.skipped == skipped)
    }

    @Test(
        "what the register holds is read as it was written, and the newest claim comes first",
        arguments: ["2 r1", "4294967295 r2", "3 r2\n2 r1"])
    func text(_ text: String) throws {
        var claimed = try #require(ClaimedTimelines(text))
        #expect(claimed.text == text)
        guard claimed.newest != .max else { return }
        claimed.add(try TimelineClaim(claimed: claimed.newest, histories: []), by: "r3")
        #expect(claimed.text.hasSuffix("\n" + text))
        #expect(claimed.claimer(of: Int(claimed.newest ?? 0)) == "r3")
    }

    @Test(
        "what is no timeline is not read as one",
        arguments: ["", "x", "-1 r1", "4294967296 r1", " ", "2", "2 r1\nx"])
    func noText(_ text: String) { #expect(ClaimedTimelines(text) == nil) }

    @Test("a register does not grow without end")
    func bounded() throws {
        var claimed = ClaimedTimelines()
        for _ in 0..<200 {
            claimed.add(try TimelineClaim(claimed: claimed.newest, histories: []), by: "r1")
        }
        #expect(claimed.newest == 201)
        #expect(claimed.claims.count == ClaimedTimelines.limit)
    }

    @Test(
        "a register that holds what no shard comes to is not believed",
        arguments: [10_002, 4_000_000_000, .max] as [UInt32])
    func unbelievable(_ claimed: UInt32) {
        #expect(throws: ClusterError.self) { try TimelineClaim(claimed: claimed, histories: []) }
    }

    @Test(
        "who is on a former timeline does not lead while another answers that follows a later one",
        arguments: [
            (3, [("r2", 3, false)], nil), (3, [("r2", 2, false), ("r3", 3, false)], nil), (3, [], nil),
            (3, [("r2", 3, false), ("r3", 4, false)], "r3 follows timeline 4"),
            (3, [("r2", 4, false), ("r3", 5, false)], "r3 follows timeline 5"),
            // One that leads unheard has had nothing acknowledged, nor one that comes back from having led so: r1 claimed 6.
            (3, [("r2", 4, true)], nil), (3, [("r1", 6, false)], nil),
            (3, [("r1", 6, false), ("r2", 6, false)], "r2 follows timeline 6"),
            // Who does not say where it is says nothing.
            (3, [("r2", nil, false)], nil),
        ] as [(Int, [(String, Int?, Bool)], String?)])
    func refusal(_ own: Int, _ others: [(String, Int?, Bool)], _ words: String?) throws {
        let reports = try others.map { region, timeline, leads in
            let wal = leads ? #"{"location": 1}"# : #"{"received_location": 1}"#
            let number = timeline.map(String.init) ?? "null"
            let body = #"{"timeline": \#(number), "xlog": \#(wal), "patroni": {"name": "\#(region)"}}"#
            return try MemberReport(json: Array(body.utf8))
        }
        let claimed = try #require(ClaimedTimelines("6 r1\n5 r2\n4 r1\n3 r1"))
        let said = TimelineClaim.refusal(own, reports, claimed)
        #expect((said == nil) == (words == nil))
        #expect(said?.hasPrefix(words ?? "") ?? true)
    }

    @Test(
        "PostgreSQL finds a history of each timeline that is passed over, and those it had stay as they are")
    func skip() throws {
        let folder = try TemporaryFolder()
        let histories = try Self.histories(in: folder.path, real: [2, 10])
        try histories.skip([9, 10, 11])
        #expect(try histories.numbers() == [2, 9, 10, 11])
        #expect(try Self.text(10, folder.path).contains("1\t0/3000000"))
        #expect(try Self.text(11, folder.path).hasPrefix("#"))
    }

    @Test(
        "what was passed over, and never led on, goes before PostgreSQL starts again; below a real history it stays",
        arguments: [
            ([], [2, 3], [2, 3]), ([2], [3], [3]), ([4], [2, 3], []), ([4], [3, 5, 6], [5, 6]),
            ([2, 3], [], []),
        ] as [([UInt32], [UInt32], [UInt32])])
    func clear(_ real: [UInt32], _ skipped: [UInt32], _ cleared: [UInt32]) throws {
        let folder = try TemporaryFolder()
        let histories = try Self.histories(in: folder.path, real: real)
        try histories.skip(skipped)
        // Neither while a server runs, nor while it may be about to fetch the real one.
        #expect(try histories.clearSkipped(olderThan: 0) { false }.isEmpty)
        #expect(try histories.clearSkipped { true }.isEmpty)
        #expect(try histories.clearSkipped(olderThan: 0) { true } == cleared)
        #expect(try histories.numbers() == Set(real + skipped).subtracting(cleared))
    }

    @Test(
        "a server is starting until it lets somebody in, by the last line of its file",
        arguments: [("starting", true), ("standby ", false), ("ready   ", false), ("stopping", false)])
    func starting(_ state: String, _ isStarting: Bool) {
        let lines = ["123", "/d", "1", "5432", "/s", "*", "1 2", state]
        #expect(Postmaster.isStarting(lines.joined(separator: "\n") + "\n") == isStarting)
    }

    @Test("a data folder that cannot be read says so, and no number is claimed on it")
    func unreadable() {
        #expect(throws: ClusterError.self) { try TimelineHistories(data: "/nowhere").numbers() }
    }

    private static func histories(in folder: String, real: [UInt32]) throws -> TimelineHistories {
        try FileManager.default.createDirectory(
            atPath: folder + "/pg_wal/archive_status", withIntermediateDirectories: true)
        for number in real {
            try "1\t0/3000000\tno recovery target specified\n".write(
                toFile: path(number, folder), atomically: true, encoding: .utf8)
        }
        try "".write(
            toFile: folder + "/pg_wal/000000010000000000000003", atomically: true, encoding: .utf8)
        return TimelineHistories(data: folder)
    }

    private static func path(_ number: UInt32, _ folder: String) -> String {
        folder + "/pg_wal/" + String(format: "%08X", number) + ".history"
    }

    private static func text(_ number: UInt32, _ folder: String) throws -> String {
        try String(contentsOfFile: path(number, folder), encoding: .utf8)
    }
}
