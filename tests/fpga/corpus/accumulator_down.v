// A phase accumulator that goes backwards, through two registers.
module top (input CLK, output ICE_27);
    reg [31:0] phase = 0;
    reg [1:0] delay = 0;
    always @(posedge CLK) begin
        phase <= phase - 32'd7654321;
        delay <= {delay[0], ~phase[31]};
    end
    assign ICE_27 = delay[1];
endmodule
