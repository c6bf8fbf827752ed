//! A run starts from a trained network.

use cifar_e2e::Project;

const USAGE: i32 = 2;

#[test]
fn a_run_starts_from_a_trained_network_and_says_what_it_took() {
    let project = Project::finished();
    let trained = project.read("models/final/model.safetensors");
    let init = |from: &str, to: &str| project.edit("params.yaml", &format!("init: {from}"), &format!("init: {to}"));

    init("none", "models/final/model.safetensors");
    project
        .run(&["train"])
        .failure(USAGE, &["train.init: models/final/model.safetensors: this run replaces that folder"]);
    init("models/final/model.safetensors", "params.yaml");
    project.run(&["train"]).failure(USAGE, &["train.init: params.yaml: is not a valid safetensors file"]);
    init("params.yaml", "none.safetensors");
    project.run(&["train"]).failure(USAGE, &["train.init: none.safetensors: there is no such file"]);

    project.write("pretrained/net.safetensors", &trained);
    init("none.safetensors", "pretrained/net.safetensors");
    project.edit("params.yaml", "freeze: none", "freeze: backbone");
    project.edit("params.yaml", "epochs: 2", "epochs: 1");
    let first = project.run(&["train"]).success();
    assert!(first.stderr.contains("train.init: 37 of 37 tensors taken; none new"), "{}", first.stderr);
    let record = project.json("models/final/init.json");
    assert_eq!(record["taken"].as_array().map(Vec::len), Some(37));
    assert_eq!(record["new"], serde_json::json!([]));
    let check = |words: &str| {
        let shown = project.run(&["check"]).stdout;
        assert!(shown.contains(words), "{words:?} is not in {shown}");
    };
    check("model        ok ");

    // The same file again: nothing is trained. Another file under the same name: another run.
    let again = project.run(&["train"]).success();
    assert!(again.stderr.contains("this run is already finished"), "{}", again.stderr);
    project.write("pretrained/net.safetensors", &project.read("models/final/model.safetensors"));
    check("started from other weights than those of train.init; run `cifar-cli train` again");
    let other = project.run(&["train"]).success();
    assert!(!other.stderr.contains("already finished"), "{}", other.stderr);
    assert_ne!(project.json("models/final/init.json")["model"], record["model"]);

    project.edit("params.yaml", "architecture: simple_cnn", "architecture: airbench94");
    project.edit("params.yaml", "dropout: 0.3", "dropout: 0.0");
    let words = "train.init: pretrained/net.safetensors: has architecture simple_cnn, the parameters and images ask";
    project.run(&["train"]).failure(USAGE, &[words]);
}
