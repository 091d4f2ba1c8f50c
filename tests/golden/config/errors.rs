use super::parse;
#[test]
fn look() {
    for d in [10, 20, 22, 23, 24, 25, 26, 30, 34, 38, 44, 50, 56, 62, 70] {
        let deep = "a: ".to_owned() + &"[".repeat(d) + &"]".repeat(d);
        println!("{d} {}", parse(&deep, &[]).unwrap_err());
    }
}
