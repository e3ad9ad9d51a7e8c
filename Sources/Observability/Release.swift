// Which Zegel this is.

/// The version of this build, as `--version` and `zegel_build_info` say it.
public enum Release {
    /// Semantic version.
    public static let version = "0.1.0"
}
