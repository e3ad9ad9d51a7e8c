// zegel judge: is a recipient domain's mail server safe enough, and what should be done about it?

import ArgumentParser
import Cluster
import DNS
import Foundation
import NIOPosix
import Observability
import Policy
import Settings
import SmartTLS

struct JudgeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "judge",
        abstract: "Judge the mail servers of a recipient domain, as a delivery would.",
        discussion: """
            Looks up the domain's hosts, connects to each of their addresses up to the TLS handshake, and says what was \
            found, what that comes to under each ruleset, and what the domain's operator should do. Nothing is sent. \
            Needs no cluster and no database: dns.forwarders, dns.trust_anchor, delivery.port, delivery.trust_roots, \
            delivery.routes, delivery.source_address, delivery.hostname and policy.… are what it reads of the configuration. \
            MTA-STS policies that workers hold from earlier it does not know.

            With --scan each host is asked which protocol versions, cipher suites and groups it accepts, by some forty \
            handshakes that are begun and not finished, two at a time. The grade, by the guidelines of the NCSC, is then \
            that of the worst of them; without --scan it is that of the one connection. Only rulesets that ask for scans (scan: in \
            rulesets.file) count what it finds: without it their verdict is that of a worker that has not scanned the host.

            The exit status is 0 when a report was made, whatever it says; 64 when a domain is none.

            EXAMPLES
              zegel judge example.nl
              zegel judge example.nl --ruleset nta7516 --json
              zegel judge example.nl --scan
              zegel judge --batch domains.txt --json > reports.jsonl
            """)

    @Argument(help: "The recipient domain.")
    var domain: String?

    @Option(name: .long, help: "Only this ruleset; repeatable. All of them without it.")
    var ruleset: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp("A file with a domain on each line; # begins a comment.", valueName: "file"))
    var batch: String?

    @Option(name: .long, help: "Domains of a batch that are judged at once (1 to 200).")
    var concurrency = 20

    @Flag(name: .long, help: "Ask each host for everything that it accepts: dozens of connections to each.")
    var scan = false

    @Flag(name: .long, help: "Print JSON: one object, or with --batch one object a line.")
    var json = false

    @OptionGroup var sources: SettingsOptions

    func validate() throws {
        guard (domain == nil) != (batch == nil) else {
            throw ValidationError("give a domain, or --batch FILE")
        }
        guard (1...200).contains(concurrency) else { throw ValidationError("--concurrency is 1 to 200") }
    }

    func run() async throws {
        try await reporting {
            let settings = try sources.settings()
            let rulesets = try chosen(RulesetBook(RulesetSettings(settings)))
            let judge = try Self.judge(settings, scans: scan)
            if let batch {
                try await judgeAll(try Self.domains(in: batch), judge, rulesets)
            } else if let domain {
                let report = await judge.report(on: try Self.name(domain), under: rulesets)
                answer(json ? try zegel.json(report) : report.text)
            }
        }
    }

    private func chosen(_ book: RulesetBook) throws(ClusterError) -> [Ruleset] {
        if ruleset.isEmpty { return book.all }
        var chosen: [Ruleset] = []
        for name in ruleset {
            guard let found = book.ruleset(named: name) else {
                throw ClusterError(
                    .usage,
                    "there is no ruleset \(name); there are \(book.all.map(\.name).joined(separator: ", "))")
            }
            chosen.append(found)
        }
        return chosen
    }

    private static func judge(_ settings: Settings, scans: Bool) throws -> DomainJudge {
        let delivery = DeliverySettings(settings)
        if let path = delivery.trustRoots, FileManager.default.contents(atPath: path) == nil {
            throw ClusterError(.configuration, "delivery.trust_roots: \(path) cannot be read")
        }
        return try DomainJudge(
            delivery, DNSSettings(settings), PolicySettings(settings), NTASettings(settings),
            group: MultiThreadedEventLoopGroup.singleton, probes: scans,
            from: try ScanSettings(settings).sourceAddress)
    }

    /// A domain in lower-case A-labels.
    private static func name(_ text: String) throws(ClusterError) -> String {
        let text = text.trimmingCharacters(in: .whitespaces)
        guard let name = try? DomainName(text), name.isHostName else {
            throw ClusterError(.usage, "\(text) is no domain name")
        }
        return name.text
    }

    private static func domains(in path: String) throws(ClusterError) -> [String] {
        guard let octets = FileManager.default.contents(atPath: path) else {
            throw ClusterError(.environment, "\(path) cannot be read")
        }
        var domains: [String] = []
        let lines = String(decoding: octets, as: UTF8.self)
            .split(separator: "\n", omittingEmptySubsequences: false)
        for (number, line) in lines.enumerated() {
            let text = line.prefix { $0 != "#" }.trimmingCharacters(in: .whitespacesAndNewlines)
            if text.isEmpty { continue }
            do {
                domains.append(try name(text))
            } catch {
                throw ClusterError(.usage, "\(path), line \(number + 1): \(text) is no domain name")
            }
        }
        return domains
    }

    /// Reports in the order of the file; how far it is stands on standard error, where that is a terminal.
    private func judgeAll(_ domains: [String], _ judge: DomainJudge, _ rulesets: [Ruleset]) async throws {
        let showsProgress = isatty(STDERR_FILENO) == 1
        let asJSON = json
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        try await withThrowingTaskGroup(of: (Int, DomainReport).self) { group in
            var waiting = domains.enumerated().makeIterator()
            func begin() {
                guard let (index, domain) = waiting.next() else { return }
                group.addTask { (index, await judge.report(on: domain, under: rulesets)) }
            }
            for _ in 0..<min(concurrency, domains.count) { begin() }
            var done: [Int: DomainReport] = [:]
            var next = 0
            var count = 0
            while let (index, report) = try await group.next() {
                begin()
                done[index] = report
                count += 1
                while let report = done.removeValue(forKey: next) {
                    answer(
                        asJSON
                            ? String(decoding: try encoder.encode(report), as: UTF8.self) : report.text + "\n"
                    )
                    next += 1
                }
                if showsProgress {
                    let end = count == domains.count ? "\n" : ""
                    FileHandle.standardError.write(Data("\r\(count) of \(domains.count)\(end)".utf8))
                }
            }
        }
    }
}
