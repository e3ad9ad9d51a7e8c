// Scalars of the YAML that is written for other programs.

/// Text as a double-quoted YAML scalar (YAML 1.2 §7.3.1), which every parser reads in the same way.
func yamlScalar(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": quoted += "\\\""
        case "\\": quoted += "\\\\"
        case "\n": quoted += "\\n"
        case _ where scalar.value < 0x20 || scalar.value == 0x7F:
            let hex = String(scalar.value, radix: 16)
            quoted += "\\x" + (hex.count < 2 ? "0" : "") + hex
        default: quoted.unicodeScalars.append(scalar)
        }
    }
    return quoted + "\""
}
