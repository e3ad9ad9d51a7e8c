// pgBackRest, as one cluster uses it: each method is one of its commands. It keeps backups and WAL; when which one is made is ours.

import Foundation

/// A server that pgBackRest is told about.
struct BackupSource: Sendable, Equatable {
    /// PostgreSQL's data folder.
    var data: String
    /// The folder of its sockets.
    var sockets: String
    /// Its port.
    var port: Int
}

/// A cluster's repository of backups and WAL.
struct BackupRepository: Sendable {
    /// Where Debian puts it.
    static let program = "/usr/bin/pgbackrest"

    /// Segments without a commit that are looked through at most: 4 GB.
    private static let searched = 256

    private let layout: RecoveryLayout
    private let programs: PostgresPrograms

    /// The repository that the configuration in `layout` names.
    /// - Throws: `environment` when pgBackRest is not there.
    init(_ layout: RecoveryLayout, _ programs: PostgresPrograms) throws(ClusterError) {
        guard access(Self.program, X_OK) == 0 else {
            throw ClusterError(.environment, "recovery points need pgBackRest: apt-get install pgbackrest")
        }
        self.layout = layout
        self.programs = programs
    }

    // MARK: Commands

    /// Prepares a shard's part of the repository. Safe to repeat.
    func prepare(_ shard: String, _ source: BackupSource) async throws(ClusterError) {
        try await run(shard, ["stanza-create"] + Self.options(source), limit: .seconds(60))
    }

    /// Has the leader end a segment, and returns once it is in the archive.
    func check(_ shard: String, _ source: BackupSource) async throws(ClusterError) {
        try await run(shard, ["check"] + Self.options(source), limit: .seconds(120))
    }

    /// Backs a leader up, and lets go of what is older than the retention.
    func backUp(_ shard: String, _ source: BackupSource, full: Bool) async throws(ClusterError) {
        let deadline = ContinuousClock.now + .seconds(3600)
        while true {
            do throws(ClusterError) {
                try await run(
                    shard, ["--type=\(full ? "full" : "incr")", "backup"] + Self.options(source),
                    limit: .seconds(24 * 3600))
                return
            } catch {
                // Somebody else makes one: this one comes after it.
                guard error.message.contains("unable to acquire lock"), ContinuousClock.now < deadline else {
                    throw error
                }
            }
            do { try await Task.sleep(for: .seconds(1)) } catch {
                throw ClusterError(.process, "interrupted")
            }
        }
    }

    /// What there is of a shard.
    func information(_ shard: String) async throws(ClusterError) -> RepositoryInformation {
        let text = try await run(shard, ["--output=json", "info"], limit: .seconds(60))
        return try RepositoryInformation(json: text)
    }

    /// Checks every file of a shard against its checksum.
    /// - Returns: pgBackRest's report.
    func verify(_ shard: String) async throws(ClusterError) -> String {
        String(
            decoding: try await run(
                shard, ["--output=text", "--verbose", "verify"], console: "info", limit: .seconds(24 * 3600)),
            as: UTF8.self)
    }

    /// Copies a backup into an empty folder.
    func restore(_ shard: String, set: String, into data: String) async throws(ClusterError) {
        try await run(
            shard,
            // Whatever it was told of archiving, replication or recovery we write ourselves.
            ["--type=none", "--set=\(set)", "--pg1-path=\(data)", "--archive-mode=off", "restore"],
            limit: .seconds(24 * 3600))
    }

    /// Ends what a restore into a folder left running whose command was killed: its helpers write on for a moment.
    func endLeftover(into data: String) async throws(ClusterError) {
        let deadline = ContinuousClock.now + .seconds(20)
        while true {
            let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
            let left = all.compactMap(Int32.init).filter { pid in
                let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
                let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
                return words.first?.hasSuffix("pgbackrest") == true && words.contains("--pg1-path=\(data)")
            }
            if left.isEmpty { return }
            for pid in left { kill(pid, SIGKILL) }
            guard ContinuousClock.now < deadline else {
                throw ClusterError(.timeout, "a restore into \(data) goes on and cannot be ended")
            }
            do { try await Task.sleep(for: .milliseconds(50)) } catch {
                throw ClusterError(.process, "interrupted")
            }
        }
    }

    /// What a PostgreSQL in `data` is told of its recovery.
    /// - Parameter moment: nil: to the end of the archive.
    func recovery(_ shard: RestoreState.Shard, to moment: Date?, data: String) -> [PostgresParameter] {
        var parameters: [PostgresParameter] = [
            .init("restore_command", restoreCommand(shard.name, data: data)),
            .init("recovery_target_timeline", "\(shard.timeline)"),
        ]
        if let moment {
            // A zone with a name is refused here.
            parameters.append(
                .init("recovery_target_time", RestorePoint.precise(moment).dropLast() + "+00"))
            parameters.append(.init("recovery_target_action", "promote"))
        }
        return parameters
    }

    /// What has PostgreSQL fetch its WAL while it recovers in `data`.
    private func restoreCommand(_ shard: String, data: String) -> String {
        let words = [
            Self.program, "--config=\(layout.configuration)",
            "--stanza=\(BackupConfiguration.stanza(shard))", "--pg1-path=\(data)", "--no-archive-async",
            "archive-get",
        ].map { "'" + $0.replacing("'", with: "'\\''") + "'" }.joined(separator: " ")
        return words.replacing("%", with: "%%") + " %f \"%p\""
    }

    // MARK: The archive

    /// The WAL that is there of a shard, and the way to its newest point.
    /// - Throws: `state` when nothing was archived yet.
    func archive(_ shard: String) async throws(ClusterError) -> Archive {
        guard let folder = try await information(shard).archive else {
            throw ClusterError(.state, "nothing of shard \(shard) was archived yet")
        }
        let path = "archive/\(BackupConfiguration.stanza(shard))/\(folder)"
        let names = try await list(shard, path)
        let histories = names.compactMap { name -> UInt32? in
            name.hasSuffix(".history") ? UInt32(name.dropLast(8), radix: 16) : nil
        }
        var segments: [WALSegment] = []
        for name in names where name.utf8.count == 16 {
            segments += try await list(shard, path + "/" + name).compactMap(Self.segment(ofFile:))
        }
        let newest = max(histories.max() ?? 1, segments.map(\.timeline).max() ?? 1)
        var history: String?
        if newest > 1 {
            guard histories.contains(newest) else {
                throw ClusterError(
                    .state,
                    "the history of timeline \(newest) of shard \(shard) is not in the archive: nothing tells where it came from"
                )
            }
            let name = WALSegment(timeline: newest, number: 0).description.prefix(8) + ".history"
            history = String(
                decoding: try await run(shard, ["repo-get", "\(path)/\(name)"], limit: .seconds(60)),
                as: UTF8.self)
        }
        return Archive(
            timelines: try ArchivedTimelines(newest: newest, history: history), segments: segments.sorted())
    }

    /// The segment of a file in the archive, NAME-CHECKSUM.zst; nil: it belongs to a backup, was not full, or is on its way in.
    static func segment(ofFile name: String) -> WALSegment? {
        guard name.dropFirst(24).first == "-", !name.hasSuffix(".pgbackrest.tmp") else { return nil }
        return WALSegment(String(name.prefix(24)))
    }

    /// What an archive holds.
    struct Archive: Sendable {
        /// The way to its newest point.
        var timelines: ArchivedTimelines
        /// All that are there, ascending.
        var segments: [WALSegment]
    }

    /// When the newest transaction in these segments was committed, to the microsecond; nil: none was.
    /// - Parameter segments: ascending; the last of them that has a commit tells.
    func newestCommit(_ shard: String, _ segments: [WALSegment]) async throws(ClusterError) -> Date? {
        let folder = layout.segments(shard)
        // Of its own: others may look at the same time.
        let own = "\(folder)/\(UUID().uuidString)"
        try ClusterFiles.folder(own, mode: 0o700, owner: programs.user)
        defer { try? FileManager.default.removeItem(atPath: own) }
        for segment in segments.suffix(Self.searched).reversed() {
            let path = "\(own)/\(segment)"
            try await run(
                shard,
                ["--no-archive-async", "--pg1-path=\(folder)", "archive-get", "\(segment)", path],
                limit: .seconds(60))
            var dump = ChildSpecification(
                programs.folder + "/pg_waldump", ["--rmgr=Transaction", path],
                output: .file(path + ".text"))
            dump.user = programs.user
            defer { unlink(path) }
            // It ends with an error where the WAL does.
            _ = try? await ChildProcess.run(dump, limit: .seconds(60))
            let text = try ClusterFiles.text(path + ".text") ?? ""
            if let moment = Self.newestCommit(inDump: text) { return moment }
        }
        return nil
    }

    /// Keeps what pgBackRest asks a data folder for before it gives a segment out: which cluster it is of.
    /// - Parameter data: a member's data folder; one that is not there changes nothing.
    func keepControlFile(_ shard: String, of data: String) throws(ClusterError) {
        let folder = layout.segments(shard)
        for path in [layout.segments, folder, folder + "/global"] {
            try ClusterFiles.folder(path, mode: 0o700, owner: programs.user)
        }
        let path = folder + "/global/pg_control"
        if access(path, F_OK) == 0 { return }
        guard let bytes = try ClusterFiles.read(data + "/global/pg_control") else { return }
        try ClusterFiles.write(bytes, to: path, durable: false, owner: programs.user)
    }

    /// The moment of the last commit that `pg_waldump` shows.
    static func newestCommit(inDump text: String) -> Date? {
        for line in text.split(separator: "\n").reversed() {
            guard line.contains("desc: COMMIT "), let range = line.range(of: "desc: COMMIT ") else {
                continue
            }
            let moment = line[range.upperBound...].prefix { $0 != ";" }
            if let date = RestorePoint.moment(ofDump: String(moment)) { return date }
        }
        return nil
    }

    private func list(_ shard: String, _ path: String) async throws(ClusterError) -> [String] {
        String(decoding: try await run(shard, ["repo-ls", path], limit: .seconds(120)), as: UTF8.self)
            .split(separator: "\n").map(String.init)
    }

    // MARK: Running it

    private static func options(_ source: BackupSource) -> [String] {
        [
            "--pg1-path=\(source.data)", "--pg1-socket-path=\(source.sockets)", "--pg1-port=\(source.port)",
            "--pg1-user=\(LedgerSite.superuser)",
        ]
    }

    @discardableResult
    private func run(
        _ shard: String, _ arguments: [String], console: String = "off", limit: Duration
    ) async throws(ClusterError) -> [UInt8] {
        let output = "\(layout.output)/\(UUID().uuidString)"
        defer { unlink(output) }
        var child = ChildSpecification(
            Self.program,
            [
                "--config=\(layout.configuration)", "--stanza=\(BackupConfiguration.stanza(shard))",
                "--log-level-console=\(console)", "--log-level-stderr=error",
            ] + arguments, output: .file(output))
        child.user = programs.user
        child.environment["PGPASSFILE"] = layout.passwords
        do {
            try await ChildProcess.run(child, limit: limit)
        } catch {
            let said = ClusterFiles.tail(output, lines: 6)
            let what = arguments.first { !$0.hasPrefix("-") } ?? "pgbackrest"
            throw ClusterError(
                error.code, "pgBackRest, \(what) of shard \(shard): \(said.isEmpty ? error.message : said)")
        }
        return try ClusterFiles.read(output) ?? []
    }
}
