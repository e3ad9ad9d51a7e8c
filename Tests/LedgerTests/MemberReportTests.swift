// What a member's Patroni answers of itself, read as it was seen from Patroni 4.1.5.

import Foundation
import Testing

@testable import Ledger

@Suite struct MemberReportTests {
    static func report(_ text: String) throws -> MemberReport { try MemberReport(json: Array(text.utf8)) }

    @Test func `a leader tells what it wrote, and who streams from it and counts`() throws {
        let report = try Self.report(
            """
            {"state": "running", "role": "primary", "server_version": 150014, "xlog": {"location": 117440512}, "timeline": 3,
            "replication": [{"usename": "zegel_replication", "application_name": "r2", "state": "streaming", "sync_state":
            "quorum"}, {"application_name": "r3", "state": "streaming", "sync_state": "async"}, {"application_name": "r4",
            "state": "catchup", "sync_state": "async"}], "dcs_last_seen": 1764227701, "patroni": {"version": "4.1.5",
            "scope": "zegel-a", "name": "r1"}}
            """)
        #expect(
            report.region == "r1" && report.leads && report.written == 117_440_512 && report.timeline == 3)
        #expect(report.followers == ["r2": true, "r3": false])
        #expect(report.consensusSeen == Date(timeIntervalSince1970: 1_764_227_701))
    }

    @Test func `a follower tells what it has, how old that is, and whether its replay is paused`() throws {
        let report = try Self.report(
            """
            {"state": "running", "role": "replica", "server_version": 150014, "xlog": {"received_location": 200,
            "replayed_location": 100, "replayed_timestamp": "2026-11-27 07:15:01.250000+00:00", "paused": true},
            "patroni": {"version": "4.1.5", "scope": "zegel-a", "name": "r2"}}
            """)
        #expect(!report.leads && report.received == 200 && report.replayed == 100 && report.isReplayPaused)
        #expect(report.replayedAt?.timeIntervalSince1970 == 1_795_763_701.25)
    }

    @Test(arguments: ["", "[]", "{}", #"{"patroni": {"version": "4.1.5"}}"#])
    func `what names no member is no answer`(_ text: String) {
        #expect(throws: (any Error).self) { try Self.report(text) }
    }

    @Test(arguments: [
        ("0/6F64FE8", 116_805_608), ("1/0", 1 << 32), ("", nil), ("0", nil), ("0/0/0", nil), ("unknown", nil),
        ("0/-1", nil),
    ])
    func `a place in the WAL is read as octets`(_ text: String, _ octets: Int?) {
        #expect(ShardView.octets(text) == octets)
    }
}
