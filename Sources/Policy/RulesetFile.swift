// Rulesets as an operator writes them: a YAML (or JSON) file with one mapping for each, on top of a built-in one.
//
//     care:
//       version: 2
//       based_on: nta7516
//       minimum_tls: TLSv1.3
//       on_insecure: route
//       gateway: portal.example.net:25
//       gateway_ruleset: secure
import Settings

/// The rulesets of one file, checked as far as each can be by itself.
struct RulesetFile {
    /// A ruleset and where it stands.
    struct Entry {
        var ruleset: Ruleset
        var lines: [String: YAMLLine]
        var line: Int
    }

    /// The keys of one ruleset.
    static let keys = [
        "version", "based_on", "require_tls", "minimum_tls", "forward_secrecy", "authentication",
        "accept_unproven_name", "nta", "scan", "on_insecure", "gateway", "gateway_ruleset",
    ]

    let file: String
    private(set) var rulesets: [Entry] = []

    /// Reads a file.
    init(_ file: String) throws(SettingsError) { try self.init(try YAMLLine.read(file: file), file: file) }

    init(_ lines: [YAMLLine], file: String) throws(SettingsError) {
        self.file = file
        var byName: [(name: String, lines: [String: YAMLLine], line: Int)] = []
        for line in lines {
            let parts = line.name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2, Self.isName(parts[0]) else {
                throw error(
                    line, "is not a key of a ruleset",
                    "write a name of lower-case letters, digits and hyphens, and below it \(Self.keys[0]) and the others"
                )
            }
            guard Self.keys.contains(parts[1]) else {
                throw error(line, "is unknown", "one of \(Self.keys.joined(separator: ", "))")
            }
            if let index = byName.firstIndex(where: { $0.name == parts[0] }) {
                byName[index].lines[parts[1]] = line
            } else {
                byName.append((parts[0], [parts[1]: line], line.line))
            }
        }
        for (name, lines, line) in byName {
            rulesets.append(
                Entry(ruleset: try ruleset(name, lines, at: line), lines: lines, line: line))
        }
    }

    /// Whether each gateway's ruleset is known, demands what `secure` demands, and ends the way.
    func checkGateways(_ book: RulesetBook) throws(SettingsError) {
        for entry in rulesets {
            guard case .route(let gateway) = entry.ruleset.onInsecure,
                let line = entry.lines["gateway_ruleset"]
            else { continue }
            guard var found = book.ruleset(named: gateway.ruleset) else {
                throw error(
                    line, "\(gateway.ruleset) is no ruleset",
                    "one of \(book.all.map(\.name).joined(separator: ", "))")
            }
            if case .route = found.onInsecure {
                throw error(
                    line, "\(gateway.ruleset) leads to a gateway itself", "name one that returns or waits")
            }
            found.onInsecure = .return
            guard found.isAtLeastAsStrict(as: .secure) else {
                throw error(
                    line, "\(gateway.ruleset) demands less than secure of the gateway",
                    "name one that demands at least as much")
            }
        }
    }

    private func ruleset(
        _ name: String, _ lines: [String: YAMLLine], at line: Int
    ) throws(SettingsError) -> Ruleset {
        let built: [String: Ruleset] = [
            "opportunistic": .opportunistic, "secure": .secure, "nta7516": .nta7516,
        ]
        guard let versionLine = lines["version"] else {
            throw SettingsError(
                place: "\(file):\(line)", key: name, problem: "has no version",
                fix: "write version: 1 and count up with every change")
        }
        guard let version = Int(versionLine.value), (1...1_000_000).contains(version) else {
            throw error(versionLine, "is no number from 1 to 1000000", "count up with every change")
        }
        var ruleset = try choice(lines["based_on"], built) ?? .secure
        (ruleset.name, ruleset.version) = (name, version)
        let truth = ["true": true, "false": false]
        if let value = try choice(lines["require_tls"], truth) { ruleset.requiresTLS = value }
        if let value = try choice(lines["forward_secrecy"], truth) { ruleset.requiresForwardSecrecy = value }
        if let value = try choice(lines["accept_unproven_name"], truth) {
            ruleset.acceptsUnprovenName = value
        }
        let floors = Dictionary(uniqueKeysWithValues: ProtocolFloor.allCases.map { ($0.rawValue, $0) })
        if let value = try choice(lines["minimum_tls"], floors) { ruleset.minimumVersion = value }
        let demands = Dictionary(
            uniqueKeysWithValues: AuthenticationDemand.allCases.map { ($0.rawValue, $0) })
        if let value = try choice(lines["authentication"], demands) { ruleset.authentication = value }
        let records = Dictionary(uniqueKeysWithValues: NTADemand.allCases.map { ($0.rawValue, $0) })
        if let value = try choice(lines["nta"], records) { ruleset.nta = value }
        let scans = Dictionary(uniqueKeysWithValues: ScanDemand.allCases.map { ($0.rawValue, $0) })
        if let value = try choice(lines["scan"], scans) { ruleset.scan = value }
        ruleset.onInsecure = try action(lines)
        if let known = built[name], !ruleset.isAtLeastAsStrict(as: known) {
            throw SettingsError(
                place: "\(file):\(line)", key: name,
                problem: "demands less than the built-in ruleset of that name",
                fix: "give it another name")
        }
        return ruleset
    }

    private func action(_ lines: [String: YAMLLine]) throws(SettingsError) -> InsecureAction {
        let names = ["return": 0, "wait": 1, "route": 2]
        let chosen = try choice(lines["on_insecure"], names) ?? 0
        guard chosen == 2 else {
            if let line = lines["gateway"] ?? lines["gateway_ruleset"] {
                throw error(line, "goes with on_insecure: route only", "remove it")
            }
            return chosen == 1 ? .wait : .return
        }
        guard let gateway = lines["gateway"], let ruleset = lines["gateway_ruleset"] else {
            guard let line = lines["on_insecure"] else { return .return }
            throw error(line, "route needs gateway and gateway_ruleset", "write both beside it")
        }
        guard let address = HostPort(gateway.value), address.port > 0 else {
            throw error(gateway, "'\(gateway.value)' is no host:port", "write one such as gw.example.net:25")
        }
        return .route(Gateway(address, ruleset: ruleset.value))
    }

    private func choice<Value>(
        _ line: YAMLLine?, _ values: [String: Value]
    ) throws(SettingsError) -> Value? {
        guard let line else { return nil }
        guard let value = values[line.value] else {
            throw error(
                line, "'\(line.value)' is no value of it",
                "one of \(values.keys.sorted().joined(separator: ", "))")
        }
        return value
    }

    private func error(_ line: YAMLLine, _ problem: String, _ fix: String) -> SettingsError {
        SettingsError(place: "\(file):\(line.line)", key: line.name, problem: problem, fix: fix)
    }

    private static func isName(_ text: String) -> Bool {
        !text.isEmpty && text.count <= 63
            && text.allSatisfy { $0.isASCII && ($0.isLowercase || $0.isNumber || $0 == "-") }
    }
}
