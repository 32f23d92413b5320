// A flip-flop that is set asynchronously.
module top (input CLK, output ICE_27);
    reg [9:0] a = 0;
    reg b;
    reg s = 0;
    always @(posedge CLK) begin
        a <= a + 1;
        s <= a == 700;
    end
    always @(posedge CLK or posedge s)
        if (s) b <= 1;
        else b <= a[4];
    assign ICE_27 = b;
endmodule
