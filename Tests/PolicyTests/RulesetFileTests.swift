// The rulesets file: what it says, and what is said of a wrong one.
import Foundation
import Settings
import Testing

@testable import Policy

@Suite struct RulesetFileTests {
    private func read(_ text: String) throws -> RulesetBook {
        let file = try RulesetFile(YAMLLine.read(text, file: "r.yaml"), file: "r.yaml")
        let book = RulesetBook(adding: file.rulesets.map(\.ruleset))
        try file.checkGateways(book)
        return book
    }

    @Test func `a ruleset is a built-in one with what the file changes`() throws {
        let book = try read(
            """
            care:
              version: 3
              based_on: nta7516
              minimum_tls: TLSv1.3
              on_insecure: route
              gateway: portal.example.net:2525
              gateway_ruleset: secure
            patient: {version: 1, on_insecure: wait}
            plain:
              version: 1
              based_on: opportunistic
              require_tls: true
              forward_secrecy: true
              authentication: none
              accept_unproven_name: false
              nta: required
              scan: known
            """)
        var care = Ruleset.nta7516
        (care.name, care.version, care.minimumVersion) = ("care", 3, .tls13)
        care.onInsecure = .route(
            Gateway(HostPort(host: "portal.example.net", port: 2525), ruleset: "secure"))
        #expect(book.ruleset(named: "care") == care)
        var patient = Ruleset.secure
        (patient.name, patient.onInsecure) = ("patient", .wait)
        #expect(book.ruleset(named: "patient") == patient)
        let plain = try #require(book.ruleset(named: "plain"))
        #expect(plain.requiresTLS && plain.requiresForwardSecrecy && !plain.acceptsUnprovenName)
        #expect(plain.nta == .required && plain.scan == .known && care.scan == nil)
        #expect(plain.authentication == .none && plain.minimumVersion == nil)
        #expect(book.ruleset(named: "secure") == .secure)
    }

    @Test func `it may be JSON`() throws {
        let book = try read(#"{"strict": {"version": 1, "minimum_tls": "TLSv1.3"}}"#)
        #expect(book.ruleset(named: "strict")?.minimumVersion == .tls13)
    }

    @Test(arguments: [
        ("a:\n  minimum_tls: TLSv1.3", "r.yaml:2: a: has no version"),
        ("a:\n  version: zero", "r.yaml:2: a.version: is no number"),
        ("a:\n  version: 1\n  minimum_tls: TLSv1.1", "r.yaml:3: a.minimum_tls: 'TLSv1.1' is no value"),
        ("a:\n  version: 1\n  scan: yes", "r.yaml:3: a.scan: 'yes' is no value"),
        ("a:\n  version: 1\n  tls: true", "r.yaml:3: a.tls: is unknown"),
        ("version: 1", "r.yaml:1: version: is not a key of a ruleset"),
        ("A+B:\n  version: 1", "r.yaml:2: A+B.version: is not a key of a ruleset"),
        ("a:\n  version: [1, 2]", "r.yaml:2: a.version: is a list"),
        ("a:\n  version: 1\n  on_insecure: drop", "r.yaml:3: a.on_insecure: 'drop' is no value"),
        ("a:\n  version: 1\n  on_insecure: route", "r.yaml:3: a.on_insecure: route needs gateway"),
        ("a:\n  version: 1\n  gateway: g.test:25", "r.yaml:3: a.gateway: goes with on_insecure: route"),
        (
            "a:\n  version: 1\n  on_insecure: route\n  gateway: g.test\n  gateway_ruleset: secure",
            "r.yaml:4: a.gateway: 'g.test' is no host:port"
        ),
        (
            "a:\n  version: 1\n  on_insecure: route\n  gateway: g.test:25\n  gateway_ruleset: other",
            "r.yaml:5: a.gateway_ruleset: other is no ruleset"
        ),
        (
            "a:\n  version: 1\n  on_insecure: route\n  gateway: g.test:25\n  gateway_ruleset: a",
            "r.yaml:5: a.gateway_ruleset: a leads to a gateway itself"
        ),
        (
            "a:\n  version: 1\n  on_insecure: route\n  gateway: g.test:25\n  gateway_ruleset: opportunistic",
            "r.yaml:5: a.gateway_ruleset: opportunistic demands less than secure"
        ),
        ("secure:\n  version: 2\n  authentication: none", "r.yaml:2: secure: demands less than the built-in"),
        ("secure:\n  version: 2\n  on_insecure: wait", "r.yaml:2: secure: demands less than the built-in"),
    ])
    func `what is wrong is named with its line and key`(text: String, complaint: String) {
        do {
            _ = try read(text)
            Issue.record("taken: \(text)")
        } catch {
            #expect("\(error)".hasPrefix(complaint), "\(error)")
        }
    }

    @Test func `rulesets.file names it, and a file that is not there is an error`() throws {
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("rulesets-\(UUID()).yaml")
        try Data("own:\n  version: 7\n".utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        func book(_ path: String) throws -> RulesetBook {
            try RulesetBook(RulesetSettings(Settings(assignments: ["rulesets.file=\(path)"])))
        }
        #expect(try book(file.path).ruleset(named: "own")?.version == 7)
        #expect(throws: SettingsError.self) { try book(file.path + ".not") }
        #expect(try RulesetBook(RulesetSettings(Settings())) == RulesetBook())
    }
}
