// Rulesets as data, and the law that the strictest wins.
import Foundation
import Settings
import Testing

@testable import Policy

@Suite struct RulesetTests {
    @Test func `the built-in rulesets get stricter from opportunistic over secure to nta7516`() {
        #expect(Ruleset.secure.isAtLeastAsStrict(as: .opportunistic))
        #expect(Ruleset.nta7516.isAtLeastAsStrict(as: .secure))
        #expect(!Ruleset.opportunistic.isAtLeastAsStrict(as: .secure))
        #expect(!Ruleset.secure.isAtLeastAsStrict(as: .nta7516))
    }

    @Test(arguments: [
        (["opportunistic", "secure"], "secure"), (["secure", "opportunistic"], "secure"),
        (["nta7516", "secure", "opportunistic"], "nta7516"), (["secure"], "secure"),
        (["secure", "secure"], "secure"),
    ])
    func `law 10: the strictest of several wins, in any order`(names: [String], winner: String) {
        let book = RulesetBook()
        #expect(Ruleset.strictest(of: names.compactMap(book.ruleset))?.name == winner)
    }

    @Test func `where none is strictest the demands of all are joined`() throws {
        var modern = Ruleset.secure
        modern.name = "modern"
        modern.minimumVersion = .tls13
        let book = RulesetBook(adding: [modern])
        let joined = try #require(Ruleset.strictest(of: [.nta7516, modern]))
        #expect(joined.name == "modern+nta7516")
        #expect(joined.minimumVersion == .tls13)
        #expect(joined.authentication == .dane)
        #expect(joined.isAtLeastAsStrict(as: modern) && joined.isAtLeastAsStrict(as: .nta7516))
        #expect(book.ruleset(named: "modern+nta7516") == joined)
        #expect(Ruleset.strictest(of: [joined, .opportunistic]) == joined)
    }

    @Test func `a join is at least as strict as each part, for every pair of demands`() throws {
        var all: [Ruleset] = []
        for tls in [false, true] {
            for floor in [nil, ProtocolFloor.tls12, .tls13] {
                for secrecy in [false, true] {
                    for demand in AuthenticationDemand.allCases {
                        for unproven in [false, true] {
                            // Every action would square the pairs: each demand has one, in turn.
                            all.append(
                                Ruleset(
                                    name: "r\(all.count)", version: 1, requiresTLS: tls,
                                    minimumVersion: floor,
                                    requiresForwardSecrecy: secrecy, authentication: demand,
                                    acceptsUnprovenName: unproven,
                                    onInsecure: Self.actions[all.count % Self.actions.count],
                                    nta: [nil, .preferred, .required][all.count % 3],
                                    scan: [nil, .known, .required][all.count / 3 % 3]))
                        }
                    }
                }
            }
        }
        for left in all {
            for right in all {
                let joined = try #require(Ruleset.strictest(of: [left, right]))
                let other = try #require(Ruleset.strictest(of: [right, left]))
                #expect(joined == other)
                #expect(joined.isAtLeastAsStrict(as: left) && joined.isAtLeastAsStrict(as: right))
            }
        }
    }

    private static let actions: [InsecureAction] = [
        .return, .wait, .route(Gateway(HostPort(host: "one.test", port: 25), ruleset: "secure")),
        .route(Gateway(HostPort(host: "two.test", port: 25), ruleset: "secure")), .return, .wait, .wait,
    ]

    @Test func `law 10: no join of actions lets a message go where one part would not`() {
        for left in Self.actions {
            for right in Self.actions {
                let joined = left.joined(with: right)
                #expect(joined == right.joined(with: left))
                #expect(joined.isAtLeastAsStrict(as: left) && joined.isAtLeastAsStrict(as: right))
                for third in Self.actions {
                    #expect(joined.joined(with: third) == left.joined(with: right.joined(with: third)))
                }
            }
        }
        #expect(InsecureAction.return.joined(with: .wait) == .return)
        #expect(Self.actions[2].joined(with: .wait) == .wait)
        #expect(Self.actions[2].joined(with: Self.actions[3]) == .wait)
    }

    @Test func `actions survive JSON`() throws {
        for action in Self.actions {
            let data = try JSONEncoder().encode([action])
            #expect(try JSONDecoder().decode([InsecureAction].self, from: data) == [action])
        }
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode([InsecureAction].self, from: Data(#"["keep"]"#.utf8))
        }
    }

    @Test func `a name of which one part is not known is not known`() {
        #expect(RulesetBook().ruleset(named: "secure+other") == nil)
        #expect(RulesetBook().ruleset(named: "") == nil)
        #expect(RulesetBook().ruleset(named: "secure+") == nil)
    }

    @Test func `a tenant's own ruleset cannot loosen a built-in one under its name`() {
        var loose = Ruleset.secure
        loose.authentication = .none
        loose.version = 2
        #expect(RulesetBook(adding: [loose]).ruleset(named: "secure") == .secure)
        var strict = Ruleset.secure
        strict.minimumVersion = .tls13
        strict.version = 2
        #expect(RulesetBook(adding: [strict]).ruleset(named: "secure") == strict)
    }

    @Test func `rulesets survive JSON, and their text is what the documentation shows`() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        for ruleset in RulesetBook().all {
            let data = try encoder.encode(ruleset)
            #expect(try JSONDecoder().decode(Ruleset.self, from: data) == ruleset)
        }
        let text = String(decoding: try encoder.encode(Ruleset.secure), as: UTF8.self)
        #expect(
            text == #"{"acceptsUnprovenName":true,"authentication":"pkix-name","minimumVersion":"TLSv1.2","#
                + #""name":"secure","onInsecure":"return","requiresForwardSecrecy":true,"requiresTLS":true,"version":1}"#
        )
    }
}
