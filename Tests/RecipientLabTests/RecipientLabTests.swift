// Every recipient of the lab comes to the verdicts that the standards demand, over real name servers, a validating resolver and
// real handshakes. `Tests/RecipientLab/README.md` says how to add one.

import Foundation
import Policy
import RecipientLab
import SmartTLS
import Testing

/// One world for all rows: built before the first and ended after the last.
private struct OneWorld: SuiteTrait, TestScoping {
    @TaskLocal static var current: RecipientWorld?

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        let world = try await RecipientWorld.build(RecipientLabTests.cases)
        do {
            try await OneWorld.$current.withValue(world) { try await function() }
        } catch {
            await world.end()
            throw error
        }
        await world.end()
    }
}

@Suite(.timeLimit(.minutes(5)), OneWorld()) struct RecipientLabTests {
    static let cases = RecipientCase.chosen(ProcessInfo.processInfo.environment["ZEGEL_CASES"])

    @Test(arguments: cases) func `a recipient comes to its verdicts, and no mail is begun`(
        _ row: RecipientCase
    ) async throws {
        let world = try #require(OneWorld.current)
        let report = try await world.report(on: row)
        for (ruleset, verdict) in row.verdicts.byRuleset {
            let told = report.verdicts[ruleset].map { "\($0.outcome.rawValue) \($0.reasonCode)" }
            #expect(told == verdict, "\(row.rule), under \(ruleset): \(report.text)")
        }
        let found = Set(report.hosts.flatMap(\.findings))
        for finding in row.findings {
            #expect(found.contains(finding.rawValue), "\(row.rule): \(found.sorted())")
        }
        if let grade = row.grade {
            #expect(report.hosts.first?.grade == grade, "\(row.rule): \(report.text)")
        }
        if let name = row.serverName {
            #expect(world.serverNames(at: row) == [row.absolute(name)], "\(row.rule)")
        }
        #expect(world.mailCommands(at: row) == 0, "\(row.rule)")
    }
}

@Suite struct RecipientCaseTests {
    @Test func `there are at least 80 rows, each with a name of its own and a rule`() {
        let rows = RecipientCase.all
        #expect(rows.count >= 80)
        #expect(Set(rows.map(\.name)).count == rows.count)
        for row in rows {
            #expect(row.name.allSatisfy { $0.isLowercase || $0.isNumber || $0 == "-" }, "\(row)")
            #expect(row.name.count < 50, "\(row): a zone has one label")
            let source = #/^(RFC \d+|NTA 7516|NCSC 2025-05|law \d+|design §\d+)/#
            #expect(row.rule.firstMatch(of: source) != nil, "\(row): \(row.rule)")
        }
    }

    @Test func `every kind of lookup fails in every way, and every fetch`() {
        let names = Set(RecipientCase.all.map(\.name))
        for kind in ["mx", "address", "aaaa", "tlsa", "sts-record", "nta-record"] {
            for failure in ["servfail", "timeout", "bogus", "refused", "truncated", "denied"] {
                #expect(names.contains("\(kind)-\(failure)"))
            }
        }
        for failure in ["timeout", "refused", "truncated", "self-signed", "not-found", "host-servfail"] {
            #expect(names.contains("fetch-\(failure)") && names.contains("held-\(failure)"))
        }
    }
}
