// What recovery decides without touching anything: which WAL counts, which backup serves a moment, when one is due, what an operator
// meant by a moment (design §10).

import Foundation
import Testing

@testable import Cluster

@Suite struct RecoveryTests {
    static func date(_ text: String) throws -> Date { try #require(RestorePoint.moment(text)) }

    static func segments(_ names: String...) throws -> [WALSegment] {
        try names.map { try #require(WALSegment($0)) }
    }

    // MARK: WAL

    @Test(arguments: [
        ("000000010000000000000001", UInt32(1), 1), ("0000000A00000001000000FF", 10, 511),
        ("FFFFFFFF0000000000000000", .max, 0),
    ])
    func `a segment's name tells timeline and number`(name: String, timeline: UInt32, number: Int) throws {
        let segment = try #require(WALSegment(name))
        #expect(segment.timeline == timeline)
        #expect(segment.number == number)
        #expect("\(segment)" == name)
    }

    @Test(arguments: [
        "", "00000001000000000000000", "0000000100000000000001FF", "00000001000000000000000g",
        "000000010000000000000001.partial", "00000002.history",
    ])
    func `what is no segment's name is none`(name: String) {
        #expect(WALSegment(name) == nil)
    }

    @Test(arguments: [
        ("000000010000000000000001-d3b07384d113edec49eaa6238ad5ff00ffffffff.zst", true),
        ("000000010000000000000001-d3b07384d113edec49eaa6238ad5ff00ffffffff.zst.pgbackrest.tmp", false),
        ("000000010000000000000001.partial-d3b07384d113edec49eaa6238ad5ff00ffffffff.zst", false),
        ("000000010000000000000001.00000028.backup", false), ("00000002.history", false),
    ])
    func `a file of the archive is a segment once it is there`(name: String, isSegment: Bool) {
        #expect((BackupRepository.segment(ofFile: name) != nil) == isSegment)
    }

    // Timeline 2 left 1 within segment 3; timeline 5 left 2 within segment 6. Numbers between were claimed and never followed.
    static let history =
        "1\t0/3500000\tno recovery target specified\n\n# a comment\n2\t0/6800000\tno recovery target specified\n"

    @Test func `the way to the newest point leaves each timeline where its history says`() throws {
        let line = try ArchivedTimelines(newest: 5, history: Self.history)
        #expect(line.newest == 5)
        #expect(line.contains(1, 0x350_0000))
        #expect(!line.contains(1, 0x350_0001))
        #expect(line.contains(5, .max))
        #expect(!line.contains(3, 0))
        let there = try Self.segments(
            "000000010000000000000002", "000000010000000000000003", "000000010000000000000004",
            "000000020000000000000003", "000000020000000000000005", "000000030000000000000006",
            "000000050000000000000006")
        #expect(
            line.onTheWay(there).map { "\($0)" } == [
                "000000010000000000000002", "000000020000000000000003", "000000020000000000000005",
                "000000050000000000000006",
            ])
    }

    @Test func `a gap on the way is found, one beside it is none`() throws {
        let line = try ArchivedTimelines(newest: 5, history: Self.history)
        let first = try #require(WALSegment("000000010000000000000002"))
        let there = try Self.segments(
            "000000010000000000000002", "000000020000000000000003", "000000020000000000000005",
            "000000050000000000000006", "000000050000000000000008")
        #expect(
            line.gaps(from: first, in: there).map { "\($0)" } == [
                "000000020000000000000004", "000000050000000000000007",
            ])
        let whole = there + (try Self.segments("000000020000000000000004", "000000050000000000000007"))
        #expect(line.gaps(from: first, in: whole).isEmpty)
        // The newest timeline has archived nothing yet.
        #expect(line.gaps(from: first, in: Array(whole.filter { $0.timeline < 5 })).isEmpty)
    }

    @Test(arguments: ["2\tnonsense\tx", "7\t0/1\tx", "2\t0/1\tx\n1\t0/2\tx"])
    func `a history that is none is refused`(text: String) {
        #expect(throws: ClusterError.self) { try ArchivedTimelines(newest: 5, history: text) }
    }

    // MARK: Backups

    static func backup(
        _ label: String, full: Bool = true, ended: Date, timeline: UInt32 = 1, position: Int = 0
    ) -> RepositoryInformation.Backup {
        .init(
            label: label, isFull: full, began: ended.addingTimeInterval(-10), ended: ended,
            firstSegment: WALSegment(timeline: timeline, number: position / WALSegment.size),
            lastSegment: WALSegment(timeline: timeline, number: position / WALSegment.size),
            lastPosition: position,
            size: 1, added: 1, isDamaged: false)
    }

    @Test func `the newest backup from before a moment serves it, unless it is of a leader that was left`()
        throws
    {
        let start = try Self.date("2026-11-27T12:00:00Z")
        let line = try ArchivedTimelines(newest: 2, history: "1\t0/3500000\tx\n")
        let information = RepositoryInformation(
            backups: [
                Self.backup("first", ended: start, position: 0x100_0000),
                Self.backup("left", ended: start + 100, position: 0x400_0000),
                Self.backup("last", ended: start + 200, timeline: 2, position: 0x500_0000),
            ], system: 1, archive: "15-1", trouble: nil)
        #expect(information.set(for: start, line) == nil)
        #expect(information.set(for: start + 150, line)?.label == "first")
        #expect(information.set(for: start + 201, line)?.label == "last")
    }

    @Test func `full backups are due once a week, others once a day`() throws {
        let now = try Self.date("2026-11-27T12:00:00Z")
        func ago(_ days: Double) -> Date { now.addingTimeInterval(-days * 86_400 + 10) }
        #expect(BackupSchedule.due([], timeline: 1, now: now) == .full)
        #expect(BackupSchedule.due([Self.backup("a", ended: ago(0.5))], timeline: 1, now: now) == nil)
        #expect(BackupSchedule.due([Self.backup("a", ended: ago(1))], timeline: 1, now: now) == .incremental)
        let old = [Self.backup("a", ended: ago(7)), Self.backup("b", full: false, ended: ago(0.1))]
        #expect(BackupSchedule.due(old, timeline: 1, now: now) == .full)
        // What a lost leader had not archived yet is in no archive: a backup of the next one stands behind that.
        #expect(
            BackupSchedule.due([Self.backup("a", ended: ago(0.5))], timeline: 2, now: now) == .incremental)
    }

    @Test func `what pgBackRest tells of a shard is read`() throws {
        let json = """
            [{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1","max":"000000010000000000000004","min":"000000010000000000000001"}],\
            "backup":[{"archive":{"start":"000000010000000000000002","stop":"000000010000000000000003"},"backrest":{"format":5,"version":"2.45"},\
            "database":{"id":1,"repo-key":1},"error":false,"info":{"delta":22992563,"repository":{"delta":2845792,"size":2845792},\
            "size":22992563},"label":"20261127-172118F","lsn":{"start":"0/2000028","stop":"0/3000050"},"prior":null,"reference":null,\
            "timestamp":{"start":1795800078,"stop":1795800082},"type":"full"}],"cipher":"aes-256-cbc","db":[{"id":1,"repo-key":1,\
            "system-id":7712902598486590901,"version":"15"}],"name":"zegel-a","repo":[{"cipher":"aes-256-cbc","key":1,"status":{"code":0,\
            "message":"ok"}}],"status":{"code":0,"lock":{"backup":{"held":false}},"message":"ok"}}]
            """
        let information = try RepositoryInformation(json: Array(json.utf8))
        #expect(information.trouble == nil)
        #expect(information.system == 7_712_902_598_486_590_901)
        #expect(information.archive == "15-1")
        let backup = try #require(information.backups.first)
        #expect(backup.label == "20261127-172118F")
        #expect(backup.lastPosition == 0x300_0050)
        #expect(backup.ended == Date(timeIntervalSince1970: 1_795_800_082))
    }

    @Test func `what cannot be decrypted is told from what is not there`() throws {
        func trouble(_ code: Int, _ words: String) throws -> RepositoryInformation.Trouble? {
            let json = """
                [{"archive":[],"backup":[],"db":[],"name":"zegel-a","repo":[{"key":1,"status":{"code":\(code),"message":"\(words)"}}],\
                "status":{"code":\(code),"message":"\(words)"}}]
                """
            return try RepositoryInformation(json: Array(json.utf8)).trouble
        }
        #expect(try trouble(1, "missing stanza path") == .notThere)
        #expect(try trouble(2, "no valid backups") == nil)
        #expect(try trouble(99, "[FormatError] unable to load info file") == .wrongPassphrase)
        #expect(
            try trouble(99, "[FileOpenError] permission denied")
                == .other("[FileOpenError] permission denied"))
        // It quotes octets that are no text.
        let raw =
            Array(#"[{"repo":[{"status":{"code":99,"message":"FormatError: "#.utf8) + [0xFF, 0x01]
            + Array("\"}}]}]".utf8)
        #expect(try RepositoryInformation(json: raw).trouble == .wrongPassphrase)
        #expect(throws: ClusterError.self) { try RepositoryInformation(json: Array("nonsense".utf8)) }
    }

    @Test func `each kind of damage that pgBackRest finds is a sentence`() {
        let report = RepositoryReport(
            """
            P01   INFO: invalid result 15-1/0000000100000000/000000010000000000000006-72b0.zst: [29] raised from local-1 protocol: zst error
            P01   INFO: invalid checksum '20261127-172118F/pg_data/base/5/2654.zst'
            P00   INFO: stanza: zegel-a
                        status: error
                          archiveId: 15-1, total WAL checked: 7, total valid WAL: 6
                            missing: 0, checksum invalid: 0, size invalid: 0, other: 1
            stanza: zegel-a
            status: error
              archiveId: 15-1, total WAL checked: 7, total valid WAL: 6
                missing: 0, checksum invalid: 0, size invalid: 0, other: 1
              backup: 20261127-172118F, status: invalid, total files checked: 964, total valid files: 961
                missing: 1, checksum invalid: 2, size invalid: 0, other: 0
            """)
        #expect(report.files == 971)
        #expect(
            report.faults == [
                "the archived WAL: 1 file is not readable", "backup 20261127-172118F: 1 file is missing",
                "backup 20261127-172118F: 2 files are damaged (checksum invalid)",
                "15-1/0000000100000000/000000010000000000000006-72b0.zst, 20261127-172118F/pg_data/base/5/2654.zst",
            ])
        #expect(RepositoryReport("stanza: zegel-a\nstatus: ok\n").faults == [])
        #expect(RepositoryReport("stanza: zegel-a\nstatus: error\n").faults.count == 1)
    }

    // MARK: Moments

    @Test(arguments: [
        ("2026-11-27T17:21:22Z", 1_795_800_082.0), ("2026-11-27T18:21:22+01:00", 1_795_800_082),
        ("2026-11-27 17:21:22.25Z", 1_795_800_082.25), ("2026-11-27t11:51:22-05:30", 1_795_800_082),
    ])
    func `a moment is read as RFC 3339 writes it`(text: String, seconds: Double) throws {
        #expect(try Self.date(text).timeIntervalSince1970 == seconds)
    }

    @Test(arguments: [
        "", "2026-11-27", "2026-11-27T17:21:22", "2026-11-27T17:21Z", "2026-13-27T17:21:22Z",
        "2026-02-30T17:21:22Z",
        "2026-11-27T25:21:22Z", "2026-11-27T17:21:22.Z", "2026-11-27T17:21:22.1234567Z",
        "2026-11-27T17:21:22+0100",
        "2026-11-27T17:21:22+24:00", "yesterday", "2026-11-27T17:21:22ZZ", "２026-11-27T17:21:22Z",
    ])
    func `what is no moment is none`(text: String) {
        #expect(RestorePoint.moment(text) == nil)
    }

    @Test func `a moment is written to the microsecond, and read the same`() throws {
        let moment = try Self.date("2026-11-27T17:21:22.000007Z")
        #expect(RestorePoint.precise(moment) == "2026-11-27T17:21:22.000007Z")
        #expect(RestorePoint.precise(try Self.date("2026-11-27T17:21:22Z")) == "2026-11-27T17:21:22.000000Z")
    }

    @Test(arguments: [
        ("2026-11-27T17:21:22", "has no time zone"), ("tomorrow", "RFC 3339"),
        ("2026-11-27T19:00:00Z", "still to come"), ("2026-11-27T11:59:59Z", "not in the archive"),
        ("2026-11-27T13:00:00Z", "not in the archive"),
    ])
    func `a moment that cannot be restored is answered with the window, in the caller's zone and in UTC`(
        text: String, words: String
    ) throws {
        let window = RestorableWindow(
            from: try Self.date("2026-11-27T12:00:00Z"), to: try Self.date("2026-11-27T13:00:00Z"))
        let zone = try #require(TimeZone(secondsFromGMT: 3600))
        let error = #expect(throws: ClusterError.self) {
            try RestorePoint.demand(text, in: window, now: Self.date("2026-11-27T18:00:00Z"), zone: zone)
        }
        #expect(error?.message.contains(words) == true)
        #expect(
            error?.message.contains(
                "2026-11-27T13:00:00+01:00 to 2026-11-27T13:59:59+01:00 (2026-11-27T12:00:00Z to 2026-11-27T12:59:59Z)"
            )
                == true)
    }

    @Test func `the newest commit of a segment is its last COMMIT`() {
        let text = """
            rmgr: Transaction len (rec/tot):     34/    34, tx: 1055, lsn: 0/19000290, prev 0/19000240, desc: COMMIT 2026-11-27 17:21:21.040749 UTC
            rmgr: Transaction len (rec/tot):     90/    90, tx: 1056, lsn: 0/19000308, prev 0/190002B8, desc: COMMIT 2026-11-27 17:21:22.252497 UTC; inval msgs: catcache 7
            rmgr: Transaction len (rec/tot):     34/    34, tx: 1057, lsn: 0/19000308, prev 0/190002B8, desc: ABORT 2026-11-27 17:21:23.042039 UTC
            """
        #expect(
            BackupRepository.newestCommit(inDump: text).map(RestorePoint.precise)
                == "2026-11-27T17:21:22.252497Z")
        #expect(BackupRepository.newestCommit(inDump: "") == nil)
    }

    @Test func `archiving names the member's own paths, whatever is in them`() throws {
        let layout = ClusterLayout(directory: "/srv/it's 100%")
        let recovery = RecoveryLayout(cluster: layout)
        let plan = ClusterPlan(
            ruleset: "secure", settings: [], shards: [ShardPlan(name: "a", home: "r1")],
            regions: [
                RegionPlan(
                    name: "r1", address: "127.0.0.1", members: [MemberPlan(shard: "a", port: 1)], nodes: [])
            ])
        let configuration = BackupConfiguration(
            plan: try RecoveryPlan(repository: "/mnt/x"), layout: recovery, passphrase: "p")
        let command = try #require(
            configuration.archiving("a", RegionLayout(layout, plan, plan.regions[0])).first {
                $0.name == "archive_command"
            })
        #expect(command.value.contains(#"'--pg1-path=/srv/it'\''s 100%%/postgres'"#))
        #expect(command.value.hasSuffix(#"'archive-push' "%p""#))
        #expect(configuration.text.contains("repo1-cipher-type=aes-256-cbc"))
    }

    @Test func `a retention that nobody can mean is refused`() {
        #expect(throws: ClusterError.self) { try RecoveryPlan(repository: "/x", retentionDays: 0) }
    }
}
